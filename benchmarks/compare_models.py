"""Every dense model trained on the drawn scenes for the same number of images: mIoU against latency.

    python -m benchmarks.compare_models --data scenes                # two hours of two cores; may be stopped, goes on
    python -m benchmarks.compare_models --data scenes --only STDC    # one row anew

Small variants from random weights: each takes its row of RECIPES for the data, but the same images, crop, batch and
epochs as the others, seed 0. Each is trained by `training.train` and exported by `export` at its model's default
precision, through the gate; val is scored by the exported file. Latency is measured at the end, side by side: all
files take turns in one process. The thresholds, which are counted and not trained, are the floor. Rows are kept in
docs/compare_scenes.json, which the page and its plot are made from.
"""

import argparse
import csv
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.zoo_page import machine
from runtime.errors import UserError, exit_on_user_error
from runtime.files import whole_file, write_whole

SIZE = (128, 256)
IMAGES, VALIDATION = 400, 50
BATCH = 8
CLASSES = 19  # Cityscapes'
PAGE = Path("docs/compare_scenes.md")
PLOT = Path("docs/compare_scenes.png")
RECORD = Path("docs/compare_scenes.json")
Rows = dict[str, dict[str, Any]]  # a label -> what was measured


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
    command.add_argument("--epochs", type=int, default=12, help=f"passes over {IMAGES} images (default 12)")
    command.add_argument("--only", default="", metavar="TEXT", help="models whose label holds TEXT")
    options = command.parse_args(argv)
    if options.epochs < 1:
        raise UserError(f"--epochs is {options.epochs}: it must be 1 or more")
    rows: Rows = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for entry in ENTRIES:
        if options.only.lower() in entry.label.lower():
            rows[entry.label] = measured(entry, options.epochs)
            write_whole(RECORD, (json.dumps(rows, indent=1) + "\n").encode())
    kept = [entry for entry in ENTRIES if entry.label in rows]
    with tempfile.TemporaryDirectory() as folder:
        times = latency([file_of(entry, rows[entry.label], Path(folder)) for entry in kept])
    lines = [line(entry.label, rows[entry.label], ms) for entry, ms in zip(kept, times, strict=True)]
    text = "\n".join([HEAD.format(**facts()), *lines, ""])
    print(text)
    write_whole(PAGE, text.encode())
    draw({entry.label: (ms, rows[entry.label]["miou"]) for entry, ms in zip(kept, times, strict=True)})
    print(f"written to {PAGE}, {PLOT} and {RECORD}")
    return 0


def training_words(entry: Entry, epochs: int) -> list[str]:
    """What `training.train` is told."""
    sizes = [f"size={SIZE[0]}x{SIZE[1]}", f"train_count={IMAGES}", f"val_count={VALIDATION}"]
    common = ["--epochs", str(epochs), "--batch", str(BATCH), "--crop", f"{SIZE[0]}x{SIZE[1]}", "--seed", "0"]
    data = ["--data", "scenes", "--data-option", *sizes]
    return [entry.model, "--name", run_name(entry, epochs), *common, *data, *entry.flags]


def run_name(entry: Entry, epochs: int) -> str:
    return f"compare-{epochs}-" + "".join(c if c.isalnum() else "_" for c in entry.label)


def exported(entry: Entry, epochs: int) -> Path:
    """The file of a run."""
    name = run_name(entry, epochs)
    return Path("runs") / name / "export" / f"{name}.tflite"


def measured(entry: Entry, epochs: int) -> dict[str, Any]:
    """Train, or go on training, then export, unless that is done; the figures of both."""
    import export.__main__ as exporter
    from training import train

    print(f"\n{entry.label}", flush=True)
    if train.main(training_words(entry, epochs)):
        raise UserError("stopped; the same command goes on from there")
    file = exported(entry, epochs)
    folder = file.parent.parent
    if not file.exists():
        exporter.main([str(folder), "--size", f"{SIZE[0]}x{SIZE[1]}", "--out", str(file)])
    record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    with (folder / "history.csv").open(encoding="utf-8") as history:
        best = max(float(row["val_miou"]) for row in csv.DictReader(history))
    return {
        "epochs": epochs,
        "keras": 100 * best,
        "miou": 100 * record["scores"]["miou"],
        "precision": record["precision"],
        "bytes": file.stat().st_size,
        "date": date.today().isoformat(),
    }


def file_of(entry: Entry, row: dict[str, Any], folder: Path) -> Path:
    """The run's file; where the run is gone, one of random weights in `folder`, which takes the same time."""
    from export import tflite
    from training import train
    from training.data import scenes
    from training.runs.trained_run import build_model

    file = exported(entry, row["epochs"])
    if file.exists():
        return file
    recipe = train.assemble(train.parser().parse_args(training_words(entry, row["epochs"])))
    images = [scenes.draw(0, index, SIZE).image for index in range(4)]
    model = build_model(recipe, CLASSES, SIZE)
    file = folder / file.name
    file.write_bytes(tflite.convert(model, SIZE, row["precision"], "mask", images, correct=False))
    return file


def latency(files: list[Path], rounds: int = 60) -> list[float]:
    """The whole path of each in ms, all files in turn."""
    from runtime import Segmenter
    from runtime.benchmark import measure
    from training.data import scenes

    segmenters = [Segmenter(file, threads=2) for file in files]
    found = measure(segmenters, scenes.draw(0, 1, SIZE).image, rounds)
    return [one["whole_ms"]["median"] for one in found]


def facts() -> dict[str, Any]:
    return {
        "images": IMAGES,
        "classes": CLASSES,
        "height": SIZE[0],
        "width": SIZE[1],
        "validation": VALIDATION,
        "machine": machine(),
        "date": date.today().isoformat(),
    }


HEAD = """\
# The models side by side on the drawn scenes

`python -m benchmarks.compare_models --data scenes`. Every model saw {images} images of {height}x{width} in each of
its epochs, from random weights, one seed, its row of RECIPES; mIoU over {classes} classes on {validation} images of
`val`, by Keras at its best epoch and by the exported file, whose precision is its model's default. Latency is that of
the whole path on two threads, all files in turn in one process (of random weights where a run is gone), {date},
{machine}. Drawn streets are no photographs, and so short a training favours what learns fast: this ranks neither the
papers nor their published weights, which are for --init and for the recipes of real data.

![mIoU against latency](compare_scenes.png)

| model | epochs, date | mIoU, Keras | mIoU, file | precision | file | latency |
|---|---|---|---|---|---|---|"""


def line(label: str, row: dict[str, Any], ms: float) -> str:
    numbers = f"{row['keras']:.2f} | {row['miou']:.2f} | {row['precision']} | {row['bytes'] / 1e6:.2f} MB"
    return f"| {label} | {row['epochs']}, {row['date']} | {numbers} | {ms:.2f} ms |"


def draw(points: dict[str, tuple[float, float]]) -> None:
    """mIoU against latency in ms, a dot a model; the thresholds as a line across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    floor = max(miou for label, (_, miou) in points.items() if label.startswith(("threshold", "Otsu")))
    axes.axhline(floor, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(f"best threshold, {floor:.1f}", (1, floor), xycoords=("axes fraction", "data"),
                  xytext=(-4, 4), textcoords="offset points", ha="right", color="0.4")  # fmt: skip
    colours = matplotlib.color_sequences["tab20"]
    for (label, point), colour in zip(points.items(), colours[: len(points)], strict=True):
        axes.scatter(*point, s=60, color=colour, label=label, zorder=3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.set_xscale("log")
    axes.set_xticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
    axes.minorticks_off()
    axes.set_xlabel(f"latency of the exported file at {SIZE[0]}x{SIZE[1]}, two threads, ms")
    axes.set_ylabel("mIoU on the drawn scenes' val, %")
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)
    with whole_file(PLOT) as part:
        figure.savefig(part, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
