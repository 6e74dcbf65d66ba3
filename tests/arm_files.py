"""What runs on Arm and here: each shipped file, each network of the zoo, and each precision; with six images each."""

from pathlib import Path

import keras
import numpy as np

import zoo
from benchmarks.roofline import macs
from export import DEFAULT_PRECISION, PRECISIONS, prompted_tflite, surgery, tflite
from runtime.image import read_rgb, resize_rgb
from runtime.segmenter import Segmenter
from tests.small import PROMPTED, SMALL, TINY_SAM
from tests.tiny import REPOSITORY
from training.data import scenes

IMAGES = 6
SIZE = (64, 96)
# Whose files are made in every precision: convolutions alone, and attention.
EVERY_PRECISION = ("ddrnet", "segformer")


def streets() -> list[np.ndarray]:
    """The four streets of examples/ and two other drawn streets, uint8 (360, 480, 3)."""
    shown = [read_rgb(path) for path in sorted((REPOSITORY / "examples").glob("*.jpg"))]
    drawn = [scenes.draw(0, number, (360, 480)).image for number in range(IMAGES - len(shown))]
    return [*shown, *drawn]


def shipped() -> dict[Path, np.ndarray]:
    """Each file of models/ with the streets at its own size."""
    files = sorted((REPOSITORY / "models").glob("*.tflite"))
    return {file: batch(streets(), Segmenter(file).size) for file in files}


def small(folder: Path) -> dict[Path, np.ndarray]:
    """A small network of each row of the zoo, with random weights, and some in each precision."""
    rgb = streets()
    made = {}
    for name in SMALL:
        wanted = PRECISIONS if name in EVERY_PRECISION else (DEFAULT_PRECISION.get(name, "int8"),)
        keras.utils.set_random_seed(0)
        model = zoo.build(name, classes=7, image_size=SIZE, **SMALL[name])
        for precision in wanted:
            path = folder / f"{name}_{precision}.tflite"
            path.write_bytes(tflite.convert(model, SIZE, precision, "mask", list(batch(rgb, SIZE))))
            made[path] = batch(rgb, SIZE)
    return made


def prompted(folder: Path) -> dict[Path, np.ndarray]:
    """A folder of a small SAM's two files."""
    keras.utils.set_random_seed(3)
    model = zoo.build(*PROMPTED, **TINY_SAM)
    path = folder / PROMPTED[0]
    path.mkdir()
    encoder = prompted_tflite.convert_encoder(model.get_layer("image_encoder"), "fp32")
    decoder = prompted_tflite.convert_decoder(model.get_layer("prompt_decoder"), "fp32")
    (path / "encoder.tflite").write_bytes(encoder)
    (path / "decoder.tflite").write_bytes(decoder)
    return {path: batch(streets(), TINY_SAM["image_size"])}


def batch(rgb: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.stack([resize_rgb(one, size) for one in rgb])


def row(core: str, file: Path, share: float, classes: int) -> str:
    """A line of the table: what the file asks of a core, and the share of ids that are those of this machine."""
    parts = sorted(file.glob("*.tflite")) if file.is_dir() else [file]
    gmacs = sum(macs(surgery.read(part.read_bytes())) for part in parts) / 1e9
    size = sum(part.stat().st_size for part in parts) / 1e6
    return f"| {core} | {file.name} | {gmacs:.3f} | {size:.2f} | {classes} | {share:.4%} |"
