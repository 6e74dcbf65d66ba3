"""`PromptedSegmenter(encoder, decoder)`: SAM from two `.tflite` files, one run an image, one run a prompt.

    python -m runtime.prompted ENCODER.tflite DECODER.tflite IMAGE --point 410,120 --out masks

    segmenter = PromptedSegmenter("NAME-encoder.tflite", "NAME-decoder.tflite").set_image(rgb)
    masks, scores = segmenter.predict(points=[(410, 120)])          # a click: what of (whole, part, sub-part)?
    masks, scores = segmenter.predict(box=(80, 40, 600, 300), multimask=False)

The encoder takes `image` (1, H, W, 3), RGB 0..255, float32 or uint8, and gives `image_embedding`. The decoder
takes that, `points` (1, 1, P, 2), `point_labels` (1, 1, P), `boxes` (1, 1, 4), and gives `masks`, `iou`,
`single_mask`, `single_iou`: see zoo/sam.py. Before the encoder an image is resized until it fits and what is
left is filled with the mean colour, which the model's normalisation turns into zeros (Kirillov et al. 2023, and
its code). Where the image shrinks, pixels are averaged over their area; the authors' code uses Pillow's
bilinear filter, which smooths a little more.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime import first_run, strict_json
from runtime.bundle import read_bundle, read_model
from runtime.encoding import encoded
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_together
from runtime.image import overlay, read_rgb
from runtime.segmenter import load_interpreter

PADDING = (123.675, 116.28, 103.53)
NO_BOX = (0.0, 0.0, -1.0, -1.0)
FOREGROUND, BACKGROUND, UNUSED = 1, 0, -2
PARTS = ("encoder", "decoder")


def fitted_size(size: Sequence[int], frame: Sequence[int]) -> tuple[int, int]:
    """(height, width) of an image of `size` when it just fits into `frame`, both (height, width)."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def fit(rgb: np.ndarray, frame: Sequence[int]) -> np.ndarray:
    """The image, uint8 (H, W, 3), in the top left of `frame` (height, width), float32, PADDING around it."""
    height, width = fitted_size(rgb.shape[:2], frame)
    if (height, width) != rgb.shape[:2]:
        shrinks = height * width < rgb.shape[0] * rgb.shape[1]
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    framed = np.tile(np.array(PADDING, np.float32), (*frame, 1))
    framed[:height, :width] = rgb
    return framed


def scaled(places: Any, size: Sequence[int], frame: Sequence[int]) -> np.ndarray:
    """Points (..., 2) or boxes (..., 4), x and y in pixels of an image of `size`, in pixels of the frame."""
    height, width = fitted_size(size, frame)
    found = np.asarray(places, np.float32).copy()
    found[..., 0::2] *= width / size[1]
    found[..., 1::2] *= height / size[0]
    return found


def full_size(logits: np.ndarray, size: Sequence[int], frame: Sequence[int]) -> np.ndarray:
    """Mask logits (h, w) of the frame -> (H, W) of the image: up to the frame, cut, and to `size`, bilinearly."""
    height, width = fitted_size(size, frame)
    logits = cv2.resize(np.ascontiguousarray(logits), (frame[1], frame[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(logits[:height, :width], (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


class PromptedSegmenter:
    """Two files, loaded. It remembers one image, so threads need one each.

    Attributes: `size` (height, width) of the frame, `slots`, how many points a prompt may have, and
    `embedding`, what the encoder made of the image; it may be kept and set again with `image_size`.
    Raises UserError, one sentence, when a file is missing, damaged, or not the half that it should be.
    """

    def __init__(
        self, encoder: str | os.PathLike[str], decoder: str | os.PathLike[str], threads: int = 2
    ) -> None:
        if threads < 1:
            raise UserError(f"threads is {threads}; it has to be 1 or more.")
        self._encoder = _half(Path(encoder), "encoder", ("image",), ("image_embedding",), threads)
        wanted = ("image_embedding", "points", "point_labels", "boxes")
        given = ("masks", "iou", "single_mask", "single_iou")
        self._decoder = _half(Path(decoder), "decoder", wanted, given, threads)
        image = self._encoder.get_input_details()["image"]
        self.size = (int(image["shape"][1]), int(image["shape"][2]))
        self._pixels = image["dtype"]
        details = self._decoder.get_input_details()
        self.slots = int(details["points"]["shape"][2])
        made = self._encoder.get_output_details()["image_embedding"]["shape"]
        if list(made) != list(details["image_embedding"]["shape"]):
            raise UserError(
                f"{encoder} gives an embedding of shape {list(map(int, made))}, but {decoder} takes "
                f"{list(map(int, details['image_embedding']['shape']))}; use the two files of one export."
            )
        self.embedding: np.ndarray | None = None
        self.image_size: tuple[int, int] = self.size

    def set_image(self, rgb: np.ndarray) -> "PromptedSegmenter":
        """Encode an image, uint8 (H, W, 3) RGB of any size; itself, for chaining."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise UserError(f"the image is {rgb.dtype} {rgb.shape}; uint8 RGB of shape (H, W, 3) is needed.")
        image = fit(rgb, self.size)
        if self._pixels == np.uint8:
            image = np.rint(image).astype(np.uint8)
        self.embedding = self._encoder(image=image[None])["image_embedding"]
        self.image_size = (rgb.shape[0], rgb.shape[1])
        return self

    def predict(
        self,
        points: Sequence[Sequence[float]] | np.ndarray = (),
        labels: Sequence[int] | np.ndarray | None = None,
        box: Sequence[float] | np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool (3, H, W) at the image's size, and the IoU expected of each, (3,) float32.

        `points` are (x, y) in pixels of the image; `labels` say 1 (in the object; all, if not given) or 0 (not
        in it); `box` is x1, y1, x2, y2. With `multimask` False there is one mask, (1, H, W), which is the better
        answer where several points, or a point and a box, leave no doubt.
        """
        logits, scores = self.logits(points, labels, box, multimask)
        masks = [full_size(mask, self.image_size, self.size) > 0 for mask in logits]
        return np.stack(masks), scores

    def logits(
        self, points: Any = (), labels: Any = None, box: Any = None, multimask: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `predict`, but the decoder's own logits, float32 (3, h, w) of the frame at a quarter of its size."""
        if self.embedding is None:
            raise UserError("no image is set; call set_image first.")
        found = self._decoder(image_embedding=self.embedding, **self._prompt(points, labels, box))
        names = ("masks", "iou") if multimask else ("single_mask", "single_iou")
        masks, scores = (found[name][0, 0] for name in names)
        return masks, scores

    def _prompt(self, points: Any, labels: Any, box: Any) -> dict[str, np.ndarray]:
        places = np.asarray(points, np.float32).reshape(-1, 2)
        kinds = np.full(len(places), FOREGROUND) if labels is None else np.asarray(labels).reshape(-1)
        if len(kinds) != len(places) or not np.isin(kinds, (FOREGROUND, BACKGROUND)).all():
            raise UserError(f"{len(places)} points need as many labels, each 1 or 0, not {kinds.tolist()}.")
        if len(places) > self.slots:
            raise UserError(f"the decoder takes up to {self.slots} points at once, not {len(places)}.")
        if box is None and not len(places):
            raise UserError("a prompt is points, a box, or both; there is neither.")
        corners = np.array(NO_BOX, np.float32)
        if box is not None:
            corners = np.asarray(box, np.float32).reshape(-1)
            if corners.shape != (4,) or not (corners[0] <= corners[2] and corners[1] <= corners[3]):
                raise UserError(f"the box {list(box)} is not x1, y1, x2, y2 with x1 <= x2 and y1 <= y2.")
            corners = scaled(corners, self.image_size, self.size)
        all_places = np.zeros((1, 1, self.slots, 2), np.float32)
        all_kinds = np.full((1, 1, self.slots), UNUSED, np.int32)
        all_places[0, 0, : len(places)] = scaled(places, self.image_size, self.size)
        all_kinds[0, 0, : len(places)] = kinds
        return {"points": all_places, "point_labels": all_kinds, "boxes": corners[None, None]}


def _half(path: Path, part: str, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Any:
    """The signature runner of one of the two files."""
    data = read_model(path)
    if read_bundle(path) is None:  # which refuses a damaged file of ours
        first_run.once(path, data, threads)
    interpreter = load_interpreter(data, path, threads)
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        ((name, ends),) = signatures.items()
        if sorted(ends["inputs"]) == sorted(inputs) and sorted(ends["outputs"]) == sorted(outputs):
            return interpreter.get_signature_runner(name)
    raise UserError(
        f"{path} is not the {part} of a prompted segmenter: it should take {', '.join(inputs)} and give "
        f"{', '.join(outputs)}."
    )


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m runtime.prompted",
        description="Cut out what a point or a box in an image means. NAME_mask0.png (255 inside) and "
        "NAME_overlay0.png are of the mask that is scored best, and so on; NAME.json has the scores.",
    )
    result.add_argument("encoder", type=Path, metavar="ENCODER.tflite")
    result.add_argument("decoder", type=Path, metavar="DECODER.tflite")
    result.add_argument("image", type=Path, metavar="IMAGE")
    result.add_argument(
        "--point", action="append", default=[], metavar="X,Y", help="in the object; repeatable"
    )
    result.add_argument("--not", dest="outside", action="append", default=[], metavar="X,Y", help="not in it")
    result.add_argument("--box", metavar="X1,Y1,X2,Y2", help="around the object")
    result.add_argument("--one", action="store_true", help="one mask, where the prompt leaves no doubt")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the masks go")
    result.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default 2)")
    return result


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    points = [_numbers(text, 2) for text in args.point + args.outside]
    labels = [FOREGROUND] * len(args.point) + [BACKGROUND] * len(args.outside)
    box = None if args.box is None else _numbers(args.box, 4)
    rgb = read_rgb(args.image)
    segmenter = PromptedSegmenter(args.encoder, args.decoder, args.threads).set_image(rgb)
    masks, scores = segmenter.predict(points, labels, box, multimask=not args.one)
    best = np.argsort(-scores)
    made: dict[Path, bytes] = {}
    for rank, index in enumerate(best):
        shown = overlay(rgb, np.where(masks[index], 0, 255).astype(np.uint8), ((255, 60, 40),), 0.5)
        stem = args.out / args.image.stem
        made[stem.with_name(f"{stem.name}_mask{rank}.png")] = encoded(
            255 * masks[index].astype(np.uint8), ".png"
        )
        made[stem.with_name(f"{stem.name}_overlay{rank}.png")] = encoded(shown, ".png")
    found = [{"iou_expected": float(scores[index]), "share": float(masks[index].mean())} for index in best]
    made[stem.with_name(f"{stem.name}.json")] = strict_json.written({"masks": found})
    write_together(made)
    expected = ", ".join(f"{row['iou_expected']:.2f}" for row in found)
    print(f"{len(found)} masks, expected IoU {expected} -> {args.out}")
    return 0


def _numbers(text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        raise UserError(f"'{text}' is not {count} numbers with commas between, such as 410,120.")
    return found


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
