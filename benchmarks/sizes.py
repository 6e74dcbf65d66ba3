"""What size of image an int8 file should see: mIoU against time, over networks and sizes together.

    python -m benchmarks.sizes runs/unseen-DDRNet-0006R0-0 runs/unseen-STDC1-0006R0-0 [--sizes 360x480 480x640 720x960]

Each run is exported as an int8 file that takes images of each size, and scored on the images that it was validated
on, at their own size: the runtime brings an image to the file's size and the mask back. The runs are those of
benchmarks.unseen, validated on a drive that they have not seen. Time is that of the whole path, from an image of
480x360 to its class ids, all files in turn. Figures are kept in docs/sizes.json, which docs/sizes.md and the plot are
made from; a file that was scored before is not scored again, but timed with the others.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.unseen import figures, in_folders, run
from benchmarks.zoo_page import machine
from export import checked_size
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json, write_whole
from runtime.image import read_rgb, resize_rgb
from runtime.shipped_files import measured
from training.runs.trained_run import load

SIZES = (
    "360x480",
    "432x576",
    "480x640",
    "576x768",
    "720x960",
)  # 1, 1.2, 1.33, 1.6 and 2 times CamVid's images
IMAGE, IMAGE_SIZE = Path("examples/sunny_street.jpg"), (360, 480)
FIGURES, PAGE, PLOT = Path("docs/sizes.json"), Path("docs/sizes.md"), Path("docs/images/sizes.png")
ANY_LOSS = "100"
COMPARED = "24"  # images beside Keras, for what is lost to int8; the score is of all

Row = dict[str, Any]  # label, size, drive, float and int8 (mIoU in percent), ms


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.sizes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    command.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="a run folder of benchmarks.unseen"
    )
    command.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="HxW", help=" ".join(SIZES))
    command.add_argument("--times", type=int, default=20, help="how often each file is timed; 20")
    command.add_argument("--note", default="", help="what else the machine was doing")
    args = command.parse_args(argv)
    for size in args.sizes:
        checked_size(size)
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {"rows": {}}
    files = {}
    for folder in args.runs:
        for size in args.sizes:
            key = f"{folder.name}-{size}"
            files[key] = file = folder / "export" / f"{key}_int8.tflite"
            if not file.exists() or key not in known["rows"]:
                known["rows"][key] = scored(folder, size, file)
                write_json(FIGURES, known)
    image = resize_rgb(read_rgb(IMAGE), IMAGE_SIZE)
    times = measured(list(files.values()), image, args.times)
    timed = f"{date.today().isoformat()}, {machine()}" + (f", {args.note}" if args.note else "")
    for key, file in files.items():
        known["rows"][key] |= {"ms": times[file.name], "timed": timed}
    write_json(FIGURES, known)
    rows = list(known["rows"].values())
    write_whole(PAGE, page(rows).encode())
    draw(PLOT, rows)
    print(tables(rows))
    return 0


def scored(folder: Path, size: str, file: Path) -> Row:
    """Export a run at that size, and score it on its validation images at their own size."""
    data = load(folder).data
    if data.name != "camvid" or not isinstance(data.folder, str):
        raise UserError(f"{folder} was not trained on one folder of CamVid: name runs of benchmarks.unseen")
    run("export", str(folder), "--precision", "int8", "--size", size, "--allow-loss", ANY_LOSS,
        "--parity-images", COMPARED, "--out", str(file))  # fmt: skip
    out = file.with_suffix("")
    run("training.evaluate", str(file), "--data", "camvid", "--data-dir", data.folder, "--metrics", "none",
        "--fit", "stretch", "--out", str(out))  # fmt: skip
    label, drive = names(folder)
    miou = json.loads((out / "scores.json").read_text(encoding="utf-8"))["miou"]
    parity = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["parity"]
    lost = 100 * (parity["keras"]["miou"] - parity["file"]["miou"])
    return {"label": label, "drive": drive, "size": size, "int8": 100 * miou, "lost": lost}


def names(folder: Path) -> tuple[str, str]:
    """What the row of benchmarks.unseen is called, and the drive that was left out: unseen-LABEL-DRIVE-SEED."""
    parts = folder.name.split("-")
    if len(parts) != 4 or parts[0] != "unseen":
        raise UserError(f"{folder} is no run of benchmarks.unseen: its name is unseen-LABEL-DRIVE-SEED")
    known = {in_folders(label): label for label in figures()}
    return known.get(parts[1], parts[1].replace("_", " ").strip()), parts[2]


def front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that no other beats in mIoU without taking longer, the fastest first."""
    best: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["ms"], -row["int8"])):
        if not best or row["int8"] > best[-1]["int8"]:
            best.append(row)
    return best


def comparable(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The timed rows of one drive that were timed together, by both: others cannot be compared."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if "ms" in row:
            groups.setdefault((row["drive"], row["timed"]), []).append(row)
    return groups


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each drive and day, the fastest row first; those on the front are marked."""
    parts = []
    for (drive, timed), group in comparable(rows).items():
        on_front = front(group)
        lines = [
            f"Without {drive} ({timed}):",
            "",
            "| network | size of the file | int8 mIoU | lost to int8 | ms | front |",
            "|---|---|---|---|---|---|",
        ]
        for row in sorted(group, key=lambda row: row["ms"]):
            numbers = f"{row['int8']:.2f} | {row['lost']:+.2f} | {row['ms']:.1f}"
            mark = "yes" if row in on_front else ""
            lines.append(f"| {row['label']} | {row['size']} | {numbers} | {mark} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """mIoU over time, a line for each network from its smallest size to its largest, and the front of each drive."""
    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for (drive, _), group in comparable(rows).items():
        best = [(row["ms"], row["int8"]) for row in front(group)]
        axes.step(*zip(*best, strict=True), where="post", color="0.8", linewidth=6)
        for label in dict.fromkeys(row["label"] for row in group):
            own = sorted((row for row in group if row["label"] == label), key=lambda row: row["ms"])
            spots = [(row["ms"], row["int8"]) for row in own]
            axes.plot(*zip(*spots, strict=True), "o-", label=f"{label}, without {drive}")
            for row, spot in zip(own, spots, strict=True):
                axes.annotate(row["size"], spot, fontsize=8, xytext=(4, -11), textcoords="offset points")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.1)
    axes.set_xlabel("milliseconds from an image of 480x360 to its class ids, two threads (log)")
    axes.set_ylabel("mIoU of the int8 file on a drive not seen, %")
    axes.set_title("A larger input against a larger network; the front of each drive in grey")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"""\
# The size that a file takes

Made by `python -m benchmarks.sizes` of runs of `benchmarks.unseen`: each network was trained without one drive of
CamVid and is scored on it, at the images' own 480x360. An int8 file may take larger images than it is given (`export
--size`): the runtime scales up, and brings the mask back. "front" marks what no other row of the table beats without
taking longer; "lost to int8" is at the file's own size. Milliseconds are of two threads; tables of different machines
cannot be compared.

![mIoU against milliseconds](images/sizes.png)

{tables(rows)}
"""


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
