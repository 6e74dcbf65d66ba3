"""What images without labels bring where few have labels, on a CamVid drive that training has not seen.

    python -m benchmarks.fewer_labels CAMVID -- deeplabv3plus --epochs 60
    python -m benchmarks.fewer_labels CAMVID --parts 8 --seeds 0 1 -- deeplabv3plus --epochs 60

One drive is left out and scored, as in benchmarks.unseen. Of the others every eighth (fourth, second) image of a drive
keeps its label: one run learns from these alone, another one from these and from the rest without labels
(`--unlabeled`). Each labelled image stands eight (four, two) times in the folder, so that an epoch has as many steps as
with all labels. `all` are all labels. What stands behind `--` are the flags of `training.train`. The same command goes
on where it was stopped. Figures are kept in docs/fewer_labels.json, which docs/fewer_labels.md is made from.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import unseen
from benchmarks.zoo_page import machine
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json, write_whole

PARTS = (8, 4, 2)  # one image in so many keeps its label
ALL = 1
ALONE, TOGETHER = "labels alone", "with the rest unlabelled"
FOLDER = Path("runs/fewer_labels")
FIGURES, PAGE = Path("docs/fewer_labels.json"), Path("docs/fewer_labels.md")

Figures = dict[str, Any]  # flags, drive, date, machine, and scores: part -> way -> seed -> mIoU in percent


def main(argv: Sequence[str] | None = None) -> int:
    own, flags = unseen.parted(argv)
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.fewer_labels", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument(
        "camvid", type=Path, metavar="CAMVID", help="CamVid's folder, as docs/how-to/data.md has it"
    )
    command.add_argument(
        "--drive", default="0006R0", choices=unseen.DRIVES, help="left out and scored; 0006R0"
    )
    command.add_argument("--parts", nargs="+", type=int, default=[*PARTS, ALL], choices=(*PARTS, ALL))
    command.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    args = command.parse_args(own)
    if not flags:
        raise UserError("the flags of training.train are missing: -- deeplabv3plus --epochs 60")
    known = begun(flags, args.drive)
    for part in args.parts:
        for way in (ALONE, TOGETHER) if part != ALL else (ALONE,):
            for seed in args.seeds:
                seeds = known["scores"].setdefault(str(part), {}).setdefault(way, {})
                if str(seed) not in seeds:
                    seeds[str(seed)] = measured(args, flags, part, way, seed)
                    known |= {"date": date.today().isoformat(), "machine": machine()}
                    write_json(FIGURES, known)
    write_whole(PAGE, page(known).encode())
    print("\n".join(table(known)))
    return 0


def begun(flags: Sequence[str], drive: str) -> Figures:
    """What is measured already. UserError where that was with other flags, or on another drive."""
    if not FIGURES.exists():
        return {"flags": list(flags), "drive": drive, "scores": {}}
    known: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    if (known["flags"], known["drive"]) != (list(flags), drive):
        raise UserError(
            f"{FIGURES} is of the drive {known['drive']} and the flags {' '.join(known['flags'])}: use these, or "
            "remove it"
        )
    return known


def folders(camvid: Path, drive: str, part: int) -> tuple[Path, Path]:
    """CamVid's layout with one image in `part` of each drive but one as train, each of them `part` times, and that one
    as val; and the folder of the images without labels."""
    whole, made = unseen.links(camvid, drive), FOLDER / f"{drive}-{part}"
    for kind in ("val", "valannot"):
        for file in sorted((whole / kind).iterdir()):
            link(file, made / kind / file.name)
    by_drive: dict[str, list[Path]] = {}
    for file in sorted((whole / "train").iterdir()):
        by_drive.setdefault(file.name.partition("_")[0], []).append(file)
    for files in by_drive.values():
        for place, file in enumerate(files):
            if place % part:
                link(file, made / "unlabeled" / file.name)
                continue
            for copy in range(part):
                name = f"{file.stem}_{copy}{file.suffix}"
                link(file, made / "train" / name)
                link(whole / "trainannot" / file.name, made / "trainannot" / name)
    return made, made / "unlabeled"


def link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(file.resolve())


def measured(args: argparse.Namespace, flags: Sequence[str], part: int, way: str, seed: int) -> float:
    """Train, or go on, and evaluate: mIoU in percent on the drive left out."""
    name = f"fewer-{args.drive}-{part}-{'semi' if way == TOGETHER else 'alone'}-{seed}"
    print(f"\none label in {part}, {way}, seed {seed}", flush=True)
    folder, unlabelled = folders(args.camvid, args.drive, part)
    more = ["--unlabeled", str(unlabelled)] if way == TOGETHER else []
    data = ["--data", "camvid", "--data-dir", str(folder)]
    unseen.run("training.train", *flags, *data, *more, "--seed", str(seed), "--name", name)
    out = FOLDER / "scores"
    unseen.run("training.evaluate", f"runs/{name}", "--split", "val", "--metrics", "none", "--out", str(out))
    miou: float = json.loads((out / "scores.json").read_text(encoding="utf-8"))["miou"]
    return 100 * miou


def table(known: Figures) -> list[str]:
    """A row a part, a column a way: the mean over the seeds."""
    lines = [f"| labels | {ALONE} | {TOGETHER} | gain |", "|---|---|---|---|"]
    for part in (*PARTS, ALL):
        scores = known["scores"].get(str(part), {})
        alone, together = (list(scores.get(way, {}).values()) for way in (ALONE, TOGETHER))
        both = set(scores.get(ALONE, {})) & set(scores.get(TOGETHER, {}))
        gains = [scores[TOGETHER][seed] - scores[ALONE][seed] for seed in sorted(both)]
        shown = "all" if part == ALL else f"1/{part}"
        rest = (
            ("", "") if part == ALL else (mean(together), unseen.spread(gains) if gains else "not measured")
        )
        lines.append(f"| {shown} | {mean(alone)} | {rest[0]} | {rest[1]} |")
    return lines


def mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "not measured"


def page(known: Figures) -> str:
    """The whole page."""
    command = f"python -m benchmarks.fewer_labels DIR --drive {known['drive']} -- {' '.join(known['flags'])}"
    when = f"{known.get('date', 'not measured')}, {known.get('machine', 'no machine')}"
    return "\n".join([HEAD.format(drive=known["drive"]), *table(known), "", f"{when}: `{command}`", ""])


HEAD = """\
# Fewer labels

Made by `python -m benchmarks.fewer_labels`: mIoU in percent on CamVid's drive {drive}, which training has not seen, of
a network that learnt from one labelled image in eight, four or two of the other drives, alone or with their other
images without labels (`--unlabeled`), in as many steps.
"""


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
