"""From a plain `keras.Model`, trained by `fit` and without a run folder, to a `.tflite`: one call from Python."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from export import OUTPUTS, PRECISIONS, Examples, Job, tflite
from runtime.bundle import Colour, spread_palette
from runtime.errors import UserError, first_line
from training.data.labels.label_maps import check_sizes
from training.data.spec import VOID_ID, DatasetSpec, Example
from training.runs.converted_weights import unlabelled
from training.runs.settings import DataSettings
from zoo.contract import LOGITS

LABELLED = "images given to export_model"  # what the file says that it was measured on

Images = np.ndarray | Sequence[np.ndarray] | str | os.PathLike[str]


@dataclass(frozen=True)
class PlainModel:
    """A TrainedModel of a model that has no run. Its sizes are free or the one that is exported."""

    keras_model: keras.Model
    data: DataSettings
    spec: DatasetSpec
    weights_path: Path
    quantized: bool = False
    source: None = None
    learnt_from: tuple[Mapping[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.keras_model.name

    @property
    def labelled(self) -> bool:
        return bool(self.data.name)

    def sha256(self) -> str:
        """Of the architecture."""
        return hashlib.sha256(self.keras_model.to_json().encode()).hexdigest()

    def model(self, image_size: tuple[int, int] | None = None) -> keras.Model:
        return self.keras_model


def export_model(
    model: keras.Model,
    *,
    classes: Sequence[str],
    images: Images,
    out: str | os.PathLike[str],
    labels: np.ndarray | Sequence[np.ndarray] | None = None,
    size: tuple[int, int] | None = None,
    precision: str = "int8",
    output: str = "mask",
    palette: Sequence[Colour] | None = None,
    allow_loss: float | None = None,
) -> Path:
    """Write a trained model as a `.tflite` that `runtime.Segmenter` opens, through the gate that runs pass too.

    `model` takes images (B, H, W, 3), RGB 0..255, and gives {"logits": (B, H, W, classes)}, as every semantic model of
    the zoo does. `classes` are its names in the order of the ids, `palette` their colours (r, g, b), 0..255.
    `images` are (N, H, W, 3) uint8, a list of such arrays (H, W, 3), or a folder of image files: every second one gives
    int8 its ranges, the others are what the file is compared with the model on; all for both if there is but one.
    `labels` (N, H, W), ids with 255 where nothing counts, let the gate measure mIoU; without them the model's own ids
    are the truth. `size` (height, width) in pixels is what the file takes, that of the first image if not given.
    `precision`, `output` and `allow_loss` are those of `python -m export`.

    Returns `out`, beside which the file's facts stand as JSON. UserError, and no file, when an argument is of no use or
    the file is not as good as the model.
    """
    out = Path(out)
    _check(out, precision, output)
    examples = _labelled(images, labels) if labels is not None else _unlabelled(images)
    first = examples[0].read()[0]
    size = (int(size[0]), int(size[1])) if size else (first.shape[0], first.shape[1])
    spec = _spec(model, classes, palette, size)
    job = Job(precision=precision, size=size, output=output, out=out, allow_loss=allow_loss)
    with _trained(model, spec, LABELLED if labels is not None else "") as trained:
        return tflite.export(trained, job, _halves(examples))


def _check(out: Path, precision: str, output: str) -> None:
    for name, value, valid in (("precision", precision, PRECISIONS), ("output", output, OUTPUTS)):
        if value not in valid:
            raise UserError(f"{name} is {value!r}: it must be one of {', '.join(valid)}")
    if out.suffix != ".tflite":
        raise UserError(f"out is {out}: it must end in .tflite")


def _spec(
    model: keras.Model, classes: Sequence[str], palette: Sequence[Colour] | None, size: tuple[int, int]
) -> DatasetSpec:
    """The classes, once it is sure that the model gives a logit for each at that size."""
    image = keras.KerasTensor((1, *size, 3), "float32")
    try:
        given = model.compute_output_spec(image, training=False)
    except (ValueError, TypeError) as error:
        raise UserError(f"the model takes no image of {size[0]}x{size[1]}: {first_line(error)}") from error
    logits = given.get(LOGITS) if isinstance(given, dict) else None
    if logits is None:
        raise UserError(
            'the model gives no {"logits": (B, H, W, classes)}: end it in keras.Model(image, {"logits": x})'
        )
    if tuple(logits.shape) != (1, *size, len(classes)):
        raise UserError(
            f"the model gives logits {tuple(logits.shape)} for an image of {size[0]}x{size[1]}, but with "
            f"{len(classes)} classes {(1, *size, len(classes))} is needed"
        )
    colours = tuple(palette or spread_palette(len(classes)))
    if len(colours) != len(classes):
        raise UserError(f"palette has {len(colours)} colours for {len(classes)} classes: one each is needed")
    try:
        return DatasetSpec(LABELLED, tuple(classes), colours, ("train", "val"), size)
    except ValueError as error:
        raise UserError(f"classes cannot be used: {error}") from error


@contextlib.contextmanager
def _trained(model: keras.Model, spec: DatasetSpec, data: str) -> Iterator[PlainModel]:
    """The model as the exporters want it: they name its weights by the hash of a file."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.weights.h5"
        model.save_weights(weights)
        yield PlainModel(model, DataSettings(data), spec, weights)


def _halves(examples: list[Example]) -> Examples:
    """int8 learns its ranges from one half and is judged on the other."""
    return lambda split: examples[::2] if split == "train" else examples[1::2] or examples


def _unlabelled(images: Images) -> list[Example]:
    """Images whose every pixel is void."""
    if isinstance(images, str | os.PathLike):
        return unlabelled(Path(images))
    return [
        _example(place, image, np.full(image.shape[:2], VOID_ID, np.uint8))
        for place, image in enumerate(_checked(images))
    ]


def _labelled(images: Images, labels: np.ndarray | Sequence[np.ndarray]) -> list[Example]:
    if isinstance(images, str | os.PathLike):
        raise UserError(f"labels belong to images in memory, and images is {images}: give arrays for both")
    found = _checked(images)
    if len(labels) != len(found):
        raise UserError(f"there are {len(found)} images and {len(labels)} labels: as many are needed")
    return [_example(place, *both) for place, both in enumerate(zip(found, labels, strict=True))]


def _checked(images: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    found = [np.asarray(image) for image in images]
    for place, image in enumerate(found):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise UserError(f"image {place} is {image.dtype} {image.shape}: uint8 RGB (H, W, 3) is needed")
    if not found:
        raise UserError("images is empty: the file is compared with the model on one at least")
    return found


def _example(place: int, image: np.ndarray, label: np.ndarray) -> Example:
    ids = np.asarray(label)
    check_sizes(image, ids, f"image {place}", f"label {place}")
    if ids.min() < 0 or ids.max() > VOID_ID:
        raise UserError(
            f"label {place} holds {ids.min()} to {ids.max()}: ids are 0 to {VOID_ID}, which is void"
        )
    return Example(f"image {place}", lambda: (image, ids.astype(np.uint8)))
