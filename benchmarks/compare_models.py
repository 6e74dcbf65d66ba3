"""Every dense model trained on the drawn scenes for the same number of images: mIoU against latency.

    python -m benchmarks.compare_models --data scenes              # an hour on two cores; goes on where it stopped
    python -m benchmarks.compare_models --data scenes --epochs 2   # a look at it

Small variants from random weights: each takes its row of RECIPES for the data, but the same images, crop, batch and
epochs as the others, seed 0. Each is trained by `training.train` and exported by `export` at its model's default
precision, through the gate; val is scored by the exported file. Latency is measured at the end, side by side: all
files take turns in one process. The thresholds, which are counted and not trained, are the floor.
"""

import argparse
import csv
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.zoo_page import machine
from runtime.errors import UserError, exit_on_user_error
from runtime.files import whole_file, write_whole

SIZE = (128, 256)
IMAGES, VALIDATION = 400, 50
BATCH = 8
PAGE = Path("docs/compare_scenes.md")
PLOT = Path("docs/compare_scenes.png")


class Entry(NamedTuple):
    """A model to compare: its label, its name in the zoo, more flags for training."""

    label: str
    model: str
    flags: tuple[str, ...] = ()


ENTRIES = (
    Entry("threshold at 127", "threshold"),
    Entry("Otsu", "otsu"),
    Entry("Otsu, 4 levels", "otsu", ("--set", "levels=4")),
    Entry("FCN MobileNetV2", "fcn"),
    Entry("DeepLabV3 MobileNetV2", "deeplabv3"),
    Entry("DeepLabV3+ MobileNetV2", "deeplabv3plus"),
    Entry("U-Net MobileNetV2", "unet"),
    Entry("SegFormer B0", "segformer"),
    Entry("Mask2Former, small", "mask2former"),
    Entry("DeepLabV3+ EfficientNet-Lite0", "deeplabv3plus", ("--backbone", "efficientnet_lite0")),
    Entry("LR-ASPP MobileNetV2", "lraspp"),
    Entry("PIDNet, narrow", "pidnet"),
    Entry("DDRNet, narrow", "ddrnet"),
    Entry("BiSeNetV2", "bisenetv2"),
    Entry("STDC, narrow", "stdc"),
)


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_models", description=__doc__.splitlines()[0]
    )
    command.add_argument("--data", choices=("scenes",), default="scenes")
    command.add_argument("--epochs", type=int, default=20, help=f"passes over {IMAGES} images (default 20)")
    command.add_argument("--only", default="", metavar="TEXT", help="models whose label holds TEXT")
    options = command.parse_args(argv)
    if options.epochs < 1:
        raise UserError(f"--epochs is {options.epochs}: it must be 1 or more")
    chosen = [entry for entry in ENTRIES if options.only.lower() in entry.label.lower()]
    rows = [measured(entry, options.epochs) for entry in chosen]
    add_latency(rows)
    text = "\n".join([HEAD.format(**facts(options.epochs)), *(line(row) for row in rows), ""])
    print(text)
    if not options.only:
        write_whole(PAGE, text.encode())
        draw(rows)
        print(f"written to {PAGE} and {PLOT}")
    return 0


def measured(entry: Entry, epochs: int) -> dict[str, Any]:
    """Train, or go on training, then export, unless that is done; the figures of both."""
    import export.__main__ as exporter
    from training import train

    name = f"compare-{epochs}-" + "".join(c if c.isalnum() else "_" for c in entry.label)
    folder = Path("runs") / name
    sizes = [f"size={SIZE[0]}x{SIZE[1]}", f"train_count={IMAGES}", f"val_count={VALIDATION}"]
    common = ["--epochs", str(epochs), "--batch", str(BATCH), "--crop", f"{SIZE[0]}x{SIZE[1]}", "--seed", "0"]
    print(f"\n{entry.label}", flush=True)
    command = [
        entry.model,
        "--data",
        "scenes",
        "--name",
        name,
        *common,
        "--data-option",
        *sizes,
        *entry.flags,
    ]
    if train.main(command):
        raise UserError("stopped; the same command goes on from there")
    file = folder / "export" / f"{name}.tflite"
    if not file.exists():
        exporter.main([str(folder), "--size", f"{SIZE[0]}x{SIZE[1]}", "--out", str(file)])
    record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    with (folder / "history.csv").open(encoding="utf-8") as history:
        best = max(float(row["val_miou"]) for row in csv.DictReader(history))
    return {
        "label": entry.label,
        "file": file,
        "keras": 100 * best,
        "miou": 100 * record["scores"]["miou"],
        "precision": record["precision"],
        "bytes": file.stat().st_size,
    }


def add_latency(rows: list[dict[str, Any]], rounds: int = 60) -> None:
    """The whole path in ms, all files in turn."""
    from runtime import Segmenter
    from runtime.benchmark import measure
    from training.data import scenes

    image = scenes.draw(0, 1, SIZE).image
    segmenters = [Segmenter(row["file"], threads=2) for row in rows]
    for row, found in zip(rows, measure(segmenters, image, rounds), strict=True):
        row["ms"] = found["whole_ms"]["median"]


def facts(epochs: int) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "images": epochs * IMAGES,
        "height": SIZE[0],
        "width": SIZE[1],
        "validation": VALIDATION,
        "machine": machine(),
        "date": date.today().isoformat(),
    }


HEAD = """\
# The models side by side on the drawn scenes

`python -m benchmarks.compare_models --data scenes --epochs {epochs}`, {date}, {machine}. Every model saw {images}
images of {height}x{width} from random weights, one seed, its row of RECIPES; mIoU over 19 classes on {validation}
images of `val`; latency of the whole path on two threads, all files in turn in one process. Drawn streets are no
photographs, and so short a training favours what learns fast: this ranks neither the papers nor their published
weights. Published checkpoints and longer training are for --init and for the recipes of real data.

![mIoU against latency](compare_scenes.png)

| model | mIoU, Keras | mIoU, file | precision | file | latency |
|---|---|---|---|---|---|"""


def line(row: dict[str, Any]) -> str:
    numbers = f"{row['keras']:.2f} | {row['miou']:.2f} | {row['precision']} | {row['bytes'] / 1e6:.2f} MB"
    return f"| {row['label']} | {numbers} | {row['ms']:.2f} ms |"


def draw(rows: list[dict[str, Any]]) -> None:
    """mIoU against latency, a dot a model; the thresholds as a line across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    floor = max(row["miou"] for row in rows if row["label"].startswith(("threshold", "Otsu")))
    axes.axhline(floor, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(f"best threshold, {floor:.1f}", (1, floor), xycoords=("axes fraction", "data"),
                  xytext=(-4, 4), textcoords="offset points", ha="right", color="0.4")  # fmt: skip
    colours = matplotlib.color_sequences["tab20"]
    for row, colour in zip(rows, colours[: len(rows)], strict=True):
        axes.scatter(row["ms"], row["miou"], s=60, color=colour, label=row["label"], zorder=3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.set_xscale("log")
    axes.set_xlabel(f"latency of the exported file at {SIZE[0]}x{SIZE[1]}, two threads, ms")
    axes.set_ylabel("mIoU on the drawn scenes' val, %")
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)
    with whole_file(PLOT) as part:
        figure.savefig(part, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
