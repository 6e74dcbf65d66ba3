"""`Segmenter(path).segment(rgb) -> Segmentation`: any `.tflite` semantic segmenter, ours or another's.

`.onnx` and OpenVINO's `.xml` too, where what runs them is installed (other_formats.py).

What is taken as a segmenter: one input, (1, H, W, 3) uint8, int8 or float32, of a fixed size; one output,
class ids (1, h, w) or (1, h, w, 1) of any number type, or scores (1, h, w, C); h and w may be smaller than
H and W. A mask file of ours may have a second output, coarse scores (runtime/confidence.py). One channel that a
sigmoid gives is the score of one class: the file then has two, background first.

What is fed: uint8 takes RGB 0..255 as it is, int8 takes RGB - 128. float32 takes 0..255 in our own files,
what TFLite metadata states (mean, std) in others', and, where nothing is stated, a guess: -1..1, the
convention of the MobileNet family that most published segmenters stand on.
"""

import functools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtime import confidence, first_run, image
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
from runtime.ends import WANTED, checked_ends
from runtime.errors import UserError, first_line
from runtime.fetch import segmenter_file
from runtime.fit import Placing, checked_fit, frames, join_ids, join_scores, placing
from runtime.other_formats import FORMATS, opened
from runtime.polygons import polygons
from runtime.sigmoid import Quantization, both_classes, ends_in_sigmoid
from runtime.stderr import stderr_closed

MAX_IDS = 256  # ids are uint8


@dataclass(frozen=True)
class Segmentation:
    """The classes of one image. `ids` is uint8 (H, W) at the size of `rgb`, uint8 (H, W, 3), and indexes
    `labels` and `palette`; `seconds` is the whole path: resize, model, resize back. `evidence` tells how sure the
    model is, None where its file does not; it is looked at when one of the properties is asked for."""

    ids: np.ndarray
    labels: tuple[str, ...]
    palette: tuple[Colour, ...]
    seconds: float
    rgb: np.ndarray
    evidence: confidence.Evidence | None = None

    @functools.cached_property
    def confidence(self) -> np.ndarray | None:
        """How sure the model is of each pixel's class, float32 (H, W), 0..1; None where its file gives no scores."""
        return confidence.at_size(self._confidence, (self.ids.shape[0], self.ids.shape[1]))

    @functools.cached_property
    def mean_confidence(self) -> float | None:
        """The mean over the image, 0..1, at the resolution of the scores."""
        return None if self._confidence is None else float(self._confidence.mean())

    @functools.cached_property
    def doubt(self) -> str:
        """A sentence when the image is unlike those that the model was measured on, else ""."""
        return confidence.doubt(self.ids, self.evidence)

    @functools.cached_property
    def _confidence(self) -> np.ndarray | None:
        return self.evidence.confidence() if self.evidence else None

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
        """What is worth keeping beside the mask, ready for JSON: size [H, W], seconds, confidence (mean, 0..1),
        doubt (a sentence), both None where there is none, and the legend."""
        return {
            "size": list(self.ids.shape),
            "seconds": round(self.seconds, 6),
            "confidence": None if self.mean_confidence is None else round(self.mean_confidence, 4),
            "doubt": self.doubt or None,
            "classes": self.legend(),
        }

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
        self._input, self._output, self._coarse = checked_ends(self._interpreter, self.path, self.bundle)
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
        self.facts = self._facts()

    def segment(self, rgb: np.ndarray, fit: str = "auto") -> Segmentation:
        """Class ids of an image, uint8 (H, W, 3) RGB of any size, at that size; `fit` says how it is placed before the
        model: see `placing`."""
        start = time.perf_counter()
        size = _checked_size(rgb)
        place = self.placing(size, fit)
        maps, coarse = zip(*self._runs(rgb, fit), strict=True)
        ids = self._ids(maps, place, size)
        seconds = time.perf_counter() - start
        evidence = (
            confidence.Evidence(self._evidence(maps, coarse), place, self.facts) if self.facts else None
        )
        return Segmentation(ids, self.labels, self.palette, seconds, rgb, evidence)

    def scores(self, rgb: np.ndarray, fit: str = "auto") -> np.ndarray:
        """Scores of an image, float32 (H, W, C) at its size, quantised ones as the numbers they stand for.

        UserError when the file gives class ids only.
        """
        if self.output != "scores":
            raise UserError(f"{self.path} gives class ids, not scores; export it with --output scores.")
        size = _checked_size(rgb)
        place, (scale, zero) = self.placing(size, fit), self._output["quantization"]
        maps = [scores for scores, _ in self._runs(rgb, fit)]
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
        return self._run(batch)[0]

    def _run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """`invoke`, and the coarse scores (h, w, C) of a mask file that gives them."""
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], batch)
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise UserError(f"{self.path} does not run: {first_line(error)}.") from error
            raw = self._interpreter.get_tensor(self._output["index"])
            coarse = self._interpreter.get_tensor(self._coarse["index"])[0] if self._coarse else None
        if self._sigmoid is not None:
            return both_classes(raw.reshape(raw.shape[1:3]), self._sigmoid), coarse
        return (raw[0] if self.output == "scores" else raw.reshape(raw.shape[1:3])), coarse

    def _runs(self, rgb: np.ndarray, fit: str) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """What the model gives for each window on the image, as `_run` gives it."""
        return [self._run(window[None]) for window in self.prepare(rgb, fit)]

    def _facts(self) -> confidence.Facts | None:
        """What was measured at export of how sure the model is; of a file of ours that says nothing, no rule."""
        if self.bundle is None:
            return None
        note = self.bundle.facts.get(confidence.FACT)
        if note is None:
            return confidence.Facts() if self.output == "scores" else None
        try:
            return confidence.read_facts(note, len(self.labels))
        except ValueError as error:
            raise UserError(
                f'{self.path} carries a "{confidence.FACT}" that cannot be read ({error}); export it again.'
            ) from error

    def _evidence(self, maps: Sequence[np.ndarray], coarse: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Scores of every fourth pixel, as numbers, float32 (h, w, C), of each window; none without scores."""
        if self.output == "scores":
            step = max(1, round(confidence.STEP * maps[0].shape[0] / self.size[0]))
            coarse = [scores[step // 2 :: step, step // 2 :: step] for scores in maps]
        elif self._coarse is None:
            return ()
        scale, zero = (self._coarse or self._output)["quantization"]
        numbers = [scores.astype(np.float32) for scores in coarse]
        return tuple((one - zero) * np.float32(scale) if scale else one for one in numbers)

    def _ids(self, maps: Sequence[np.ndarray], place: Placing, size: tuple[int, int]) -> np.ndarray:
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


def _upscaled_argmax(maps: Sequence[np.ndarray], place: Placing, size: tuple[int, int]) -> np.ndarray:
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
