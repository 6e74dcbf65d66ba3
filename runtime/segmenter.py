"""`Segmenter(path).segment(rgb) -> Segmentation`: any `.tflite` semantic segmenter, ours or another's.

`.onnx` and OpenVINO's `.xml` too, where what runs them is installed (other_formats.py).

What is taken as a segmenter: one input, (1, H, W, 3) uint8, int8 or float32, of a fixed size; one output,
class ids (1, h, w) or (1, h, w, 1) of any number type, or scores (1, h, w, C); h and w may be smaller than
H and W. One channel that a sigmoid gives is the score of one class: the file then has two, background first.

What is fed: uint8 takes RGB 0..255 as it is, int8 takes RGB - 128. float32 takes 0..255 in our own files,
what TFLite metadata states (mean, std) in others', and, where nothing is stated, a guess: -1..1, the
convention of the MobileNet family that most published segmenters stand on.
"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtime import first_run, image
from runtime.bundle import (
    Bundle,
    Colour,
    foreign_labels,
    numbered,
    read_bundle,
    read_model,
    spread_palette,
    stated_normalisation,
)
from runtime.class_names import MOST_CLASSES
from runtime.errors import UserError, first_line
from runtime.fetch import segmenter_file
from runtime.fit import Placing, checked_fit, frames, join_ids, join_scores, placing
from runtime.other_formats import FORMATS, opened
from runtime.polygons import polygons
from runtime.sigmoid import Quantization, both_classes, ends_in_sigmoid
from runtime.stderr import stderr_closed

MAX_IDS = 256  # ids are uint8
WANTED = "a segmenter takes one (1, H, W, 3) image and gives class ids (1, H, W) or scores (1, H, W, C)"


@dataclass(frozen=True)
class Segmentation:
    """The classes of one image. `ids` is uint8 (H, W) at the size of `rgb`, uint8 (H, W, 3), and indexes
    `labels` and `palette`; `seconds` is the whole path: resize, model, resize back."""

    ids: np.ndarray
    labels: tuple[str, ...]
    palette: tuple[Colour, ...]
    seconds: float
    rgb: np.ndarray

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The image tinted by class, uint8 (H, W, 3); opacity 0 is the image, 1 the colours."""
        if not 0.0 <= opacity <= 1.0:
            raise UserError(f"opacity is {opacity}; it has to be from 0 to 1.")
        return image.overlay(self.rgb, self.ids, self.palette, opacity)

    def colour(self) -> np.ndarray:
        """Each class in its colour, uint8 (H, W, 3)."""
        return image.colour(self.ids, self.palette)

    def shares(self) -> dict[int, float]:
        """Class id -> its share of the pixels, 0..1, for the classes that are there, largest first."""
        counts = image.pixels_of_classes(self.ids) / self.ids.size
        present = sorted(np.flatnonzero(counts), key=lambda index: -counts[index])
        return {int(index): float(counts[index]) for index in present}

    def legend(self) -> list[dict[str, Any]]:
        """One row a class that is there, largest first: id, name, colour [r, g, b], share 0..1."""
        return [
            {"id": index, "name": self.name_of(index), "colour": list(self.colour_of(index)), "share": share}
            for index, share in self.shares().items()
        ]

    def polygons(self, **options: Any) -> list[dict[str, Any]]:
        """Outlines of each connected region, with its name; for the options see `runtime.polygons.polygons`."""
        rows = polygons(self.ids, **options)
        return [{"name": self.name_of(row["id"]), **row} for row in rows]

    def mask_png(self) -> bytes:
        """The class ids as a grey PNG: the pixel's value is its class id."""
        return image.png(self.ids)

    def colour_png(self) -> bytes:
        return image.png(self.colour())

    def overlay_png(self, opacity: float = 0.5) -> bytes:
        return image.png(self.overlay(opacity))

    def report(self) -> dict[str, Any]:
        """What is worth keeping beside the mask, ready for JSON: size [H, W], seconds, legend."""
        return {"size": list(self.ids.shape), "seconds": round(self.seconds, 6), "classes": self.legend()}

    def name_of(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else "ignored"

    def colour_of(self, index: int) -> Colour:
        return self.palette[index] if index < len(self.palette) else (0, 0, 0)


class Segmenter:
    """One `.tflite` file, loaded. Safe to share between threads: one call at a time enters the interpreter.

    Attributes: `size` (height, width) of the model's input, `labels`, `palette`, `output` ("mask" or "scores"),
    `bundle` (the note inside one of our files, else None), `path`, `threads`. `path` may be a name of `kerbside
    list` or hf://OWNER/NAME too, and a shipped file is found (`models/x.tflite`) from any folder, see
    `runtime.fetch.segmenter_file`. A file without our hash is run once in a process of its own first, see
    `runtime.first_run`, unless it is `trusted`. Raises UserError, one sentence, when the file is missing,
    damaged, or no segmenter.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 2, *, trusted: bool = False) -> None:
        if threads < 1:
            raise UserError(f"threads is {threads}; it has to be 1 or more.")
        self.path, self.threads = segmenter_file(path), threads
        self.bundle: Bundle | None
        self._lock, data = threading.Lock(), b""
        if self.path.suffix in FORMATS:
            self._interpreter, self.bundle = opened(self.path, threads)
        else:
            self.bundle, data = read_bundle(self.path), read_model(self.path)
            if self.bundle is None and not trusted:
                first_run.once(self.path, data, threads)
            self._interpreter = load_interpreter(data, self.path, threads)
        self._input, self._output = _checked_ends(self._interpreter, self.path)
        height, width = (int(side) for side in self._input["shape"][1:3])
        self.size = (height, width)
        self._mean, self._scale = _float_input(data, self.bundle)
        shape = self._output["shape"]
        channels = int(shape[3]) if len(shape) == 4 else 1
        # One channel holds ids, unless a sigmoid gives it: that is the score of one class against all else.
        self._sigmoid: Quantization | None = None
        if channels == 1 and data and ends_in_sigmoid(self._interpreter, self._output):
            channels, self._sigmoid = 2, self._output["quantization"]
            self._output = {**self._output, "quantization": (0.0, 0)}
        self.output = "scores" if channels > 1 else "mask"
        self.labels, self.palette = self._names(channels)

    def segment(self, rgb: np.ndarray, fit: str = "auto") -> Segmentation:
        """Class ids of an image, uint8 (H, W, 3) RGB of any size, at that size; `fit` says how it is placed before the
        model: see `placing`."""
        start = time.perf_counter()
        size = _checked_size(rgb)
        place = self.placing(size, fit)
        ids = self._ids(self._maps(rgb, fit), place, size)
        return Segmentation(ids, self.labels, self.palette, time.perf_counter() - start, rgb)

    def scores(self, rgb: np.ndarray, fit: str = "auto") -> np.ndarray:
        """Scores of an image, float32 (H, W, C) at its size, quantised ones as the numbers they stand for.

        UserError when the file gives class ids only.
        """
        if self.output != "scores":
            raise UserError(f"{self.path} gives class ids, not scores; export it with --output scores.")
        size = _checked_size(rgb)
        place, (scale, zero) = self.placing(size, fit), self._output["quantization"]
        maps = self._maps(rgb, fit)
        if place.whole and maps[0].shape[:2] == size:
            values = maps[0].astype(np.float32)
        else:
            planes = (join_scores(maps, place, index) for index in range(maps[0].shape[2]))
            values = np.stack([image.resize_rgb(plane, size) for plane in planes], axis=-1)
        return (values - zero) * np.float32(scale) if scale else values

    def placing(self, size: tuple[int, int], fit: str = "auto") -> Placing:
        """Where an image of `size` (height, width) lies before the model: `fit` is one of `runtime.fit.FITS`.

        `auto` goes by the image's aspect in one of our own files. A file of others is stretched to, as it always was,
        since nothing is known of what it was made for.
        """
        way = checked_fit(fit)
        if way == "auto" and self.bundle is None:
            way = "stretch"
        return placing(way, size, self.size)

    def warm_up(self) -> "Segmenter":
        """Run once on black, because the first run allocates; itself, for chaining."""
        self.invoke(self.prepare(np.zeros((*self.size, 3), np.uint8)))
        return self

    def prepare(self, rgb: np.ndarray, fit: str = "auto") -> np.ndarray:
        """The image as the model wants it, (N, H, W, 3): N is 1 but for `tiles`. `invoke` takes one of them."""
        small = np.stack(frames(rgb, self.placing(_checked_size(rgb), fit)))
        kind = self._input["dtype"]
        if kind == np.int8:
            return (small.astype(np.int16) - 128).astype(np.int8)
        if kind == np.float32:
            return ((small - self._mean) / self._scale).astype(np.float32)
        return small

    def invoke(self, batch: np.ndarray) -> np.ndarray:
        """The model alone: (1, H, W, 3) as `prepare` gives it -> ids (h, w) or scores (h, w, C), as they come
        (quantised scores stay quantised: their order is all that counts)."""
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], batch)
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise UserError(f"{self.path} does not run: {first_line(error)}.") from error
            raw = self._interpreter.get_tensor(self._output["index"])
        if self._sigmoid is not None:
            return both_classes(raw.reshape(raw.shape[1:3]), self._sigmoid)
        return raw[0] if self.output == "scores" else raw.reshape(raw.shape[1:3])

    def _maps(self, rgb: np.ndarray, fit: str) -> list[np.ndarray]:
        """What the model gives for each window on the image, as `invoke` gives it."""
        return [self.invoke(window[None]) for window in self.prepare(rgb, fit)]

    def _ids(self, maps: list[np.ndarray], place: Placing, size: tuple[int, int]) -> np.ndarray:
        """The model's outputs -> class ids of the image, uint8, at `size`."""
        if self.output == "scores":
            return _upscaled_argmax(maps, place, size)
        return image.resize_ids(join_ids([self._checked_ids(raw) for raw in maps], place), size)

    def _checked_ids(self, raw: np.ndarray) -> np.ndarray:
        """The model's output -> class ids, uint8 (h, w); UserError when it is none of this file's."""
        scale, zero = self._output["quantization"]
        if scale:
            raw = (raw.astype(np.float32) - zero) * scale
        ids = raw
        if raw.dtype.kind == "f":
            ids = np.rint(raw)
            off = np.abs(raw - ids)
            if not off.max() < 1e-3:  # NaN lands here too
                raise UserError(
                    f"{self.path} gives fractions such as {float(raw.ravel()[off.argmax()]):.3f} in one "
                    f"channel where class ids should stand; {WANTED}."
                )
        limit = len(self.labels)
        if ids.min() < 0 or ids.max() >= limit:
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise UserError(f"{self.path} gives class id {wrong}; its labels allow ids 0 to {limit - 1}.")
        return ids.astype(np.uint8)

    def _names(self, channels: int) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
        """Labels and palette: the file's own, or numbered classes in generated colours."""
        if self.bundle is not None:
            labels, palette = self.bundle.labels, self.bundle.palette
            if self.bundle.size != self.size or (channels > 1 and channels != len(labels)):
                raise UserError(
                    f"{self.path} states size {self.bundle.size} and {len(labels)} labels, but its model has "
                    f"size {self.size} and {channels} channels; export it again."
                )
            return labels, palette
        count = channels if channels > 1 else MAX_IDS
        labels = foreign_labels(self.path) or ()
        if channels == 1 and len(labels) > MOST_CLASSES:  # their ids would come round to 0
            raise UserError(
                f"{self.path} names {len(labels)} classes; up to {MOST_CLASSES} fit into ids of 8 bits."
            )
        if self._sigmoid is not None and len(labels) == 1:
            labels = ("background", *labels)
        if len(labels) > count or (channels > 1 and len(labels) != count):
            labels = ()
        # A mask of others does not say how many classes there are: every uint8 id gets a name.
        return labels + numbered(count)[len(labels) :], spread_palette(count)


def load_interpreter(data: bytes, path: Path, threads: int) -> Interpreter:
    try:
        with stderr_closed():  # LiteRT says there which delegate it made
            interpreter = Interpreter(model_content=data, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if "Flatbuffer" in str(error):
            raise UserError(
                f"{path} is a truncated or damaged TFLite file; copy or export it again."
            ) from error
        raise UserError(f"{path} cannot be loaded by LiteRT: {first_line(error)}.") from error
    return interpreter


def _checked_ends(interpreter: Interpreter, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of the one input and the one output; UserError when they are not those of a segmenter."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; {WANTED}.")
    taken, given = inputs[0], outputs[0]
    # A batch that is free is run as 1; a free height or width has no size to resize to.
    free = [tensor for tensor in (taken, given) if -1 in list(tensor["shape_signature"])[1:]]
    if free:
        shape = _shown(free[0]["shape_signature"])
        raise UserError(
            f"{path} leaves its size open (shape {shape}); export it with a fixed height and width."
        )
    shape = taken["shape"]
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise UserError(f"{path} takes an input of shape {_shown(shape)}; {WANTED}.")
    if taken["dtype"] not in (np.uint8, np.int8, np.float32):
        raise UserError(
            f"{path} takes {np.dtype(taken['dtype']).name} pixels; uint8, int8 and float32 segmenters run."
        )
    shape = given["shape"]
    if (
        len(shape) not in (3, 4)
        or shape[0] != 1
        or min(shape) < 1
        or np.dtype(given["dtype"]).kind not in "iuf"
    ):
        kind = np.dtype(given["dtype"]).name
        raise UserError(f"{path} gives an output of shape {_shown(shape)}, {kind}; {WANTED}.")
    if not _same_aspect(taken["shape"][1:3], shape[1:3]):
        raise UserError(
            f"{path} turns {_shown(taken['shape'])} into {_shown(shape)}, no map of it; {WANTED}."
        )
    if len(shape) == 4 and shape[3] > MOST_CLASSES:
        raise UserError(
            f"{path} gives {shape[3]} classes; up to {MOST_CLASSES} fit into ids of 8 bits beside void."
        )
    return taken, given


def _same_aspect(source: Any, target: Any) -> bool:
    """Whether `target` (h, w) can be the map of an image of size `source`: the same factor both ways, give or
    take the rounding of a stride of 32. Detectors and classifiers with three or four axes fail this."""
    rows, columns = (max(1.0, before / after) for before, after in zip(source, target, strict=True))
    slack = 1 + max(1 / target[0], 1 / target[1])
    return rows <= 64 and columns <= 64 and 1 / slack <= rows / columns <= slack


def _float_input(data: bytes, bundle: Bundle | None) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std), each float32 (1,) or (3,): a float model is fed (rgb - mean) / std."""
    mean, std = [0.0], [1.0]
    if bundle is None:
        mean, std = stated_normalisation(data) or ([127.5], [127.5])
    if len(mean) not in (1, 3) or len(std) not in (1, 3):
        mean, std = [127.5], [127.5]
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def _checked_size(rgb: np.ndarray) -> tuple[int, int]:
    """(height, width) of an image; UserError unless it is uint8 RGB."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise UserError(f"the image is {rgb.dtype} {rgb.shape}; uint8 RGB of shape (H, W, 3) is needed.")
    return rgb.shape[0], rgb.shape[1]


def _upscaled_argmax(maps: list[np.ndarray], place: Placing, size: tuple[int, int]) -> np.ndarray:
    """Scores (h, w, C) of each window -> ids uint8 at `size`: bilinear first, argmax after, lest edges be blocky.

    Class by class, because (H, W, C) at the size of a photograph can take gigabytes.
    """
    if place.whole and maps[0].shape[:2] == size:
        return maps[0].argmax(axis=-1).astype(np.uint8)
    best = np.full(size, -np.inf, np.float32)
    ids = np.zeros(size, np.uint8)
    for index in range(maps[0].shape[2]):
        plane = image.resize_rgb(join_scores(maps, place, index), size)
        better = plane > best
        np.copyto(best, plane, where=better)
        ids[better] = index
    return ids


def _shown(shape: Any) -> str:
    return "(" + ", ".join(str(int(side)) for side in shape) + ")"
