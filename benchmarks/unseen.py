"""A network, or what is changed about one, on a CamVid drive that training has not seen.

    python -m benchmarks.unseen CAMVID --label DDRNet -- ddrnet --epochs 60
    python -m benchmarks.unseen CAMVID --label "DDRNet, OHEM" --beside DDRNet -- ddrnet --epochs 60 --loss ohem

One drive of `train` after another is left out (0001TP, 0006R0, 0016E5): the run learns from the others, and what it
became is scored on the drive, clean and corrupted, and on `val`, which flatters: by Keras in float and as an int8 file.
`--drives val` learns from all of `train`. What stands behind `--` are the flags of `training.train`. The same command
goes on where it was stopped; what is done is not done again. Figures are kept in docs/unseen.json, which the table of
docs/unseen.md is made from.

`--beside` names a row to compare with: the difference of both, drive by drive and seed by seed, as mean and standard
deviation. A mean within the deviation is called so.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.zoo_page import machine
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json, write_whole

DRIVES = ("0001TP", "0006R0", "0016E5")
VAL = "val"
SCORED = (VAL, *DRIVES)
FOLDER = Path("runs/unseen")  # folders of links; the runs lie beside it
FIGURES, PAGE = Path("docs/unseen.json"), Path("docs/unseen.md")
ANY_LOSS = "100"  # points to int8: the file is measured, whatever it lost

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    own, flags = parted(argv)
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.unseen", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument(
        "camvid", type=Path, metavar="CAMVID", help="CamVid's folder, as docs/how-to/data.md has it"
    )
    command.add_argument("--label", required=True, help="what the row is called")
    command.add_argument("--beside", metavar="LABEL", help="a row to compare with")
    command.add_argument(
        "--drives", nargs="+", default=list(DRIVES), metavar="DRIVE", help="left out in turn; val: see above"
    )
    command.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    args = command.parse_args(own)
    check(args, flags)
    known = figures()
    row = known.setdefault(args.label, {"flags": flags, "drives": {}})
    if row["flags"] != flags:
        raise UserError(f'the row "{args.label}" was made with other flags: {" ".join(row["flags"])}')
    row["beside"] = args.beside or row.get("beside")
    for drive in args.drives:
        for seed in args.seeds:
            if str(seed) not in row["drives"].get(drive, {}):
                row["drives"].setdefault(drive, {})[str(seed)] = measured(args, flags, drive, seed)
                row |= {"date": date.today().isoformat(), "machine": machine()}
                keep(args.label, row)
    known = keep(args.label, row)
    write_whole(PAGE, page(known).encode())
    print("\n".join([HEADER, line(args.label, row, known)]))
    return 0


def parted(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """A benchmark's own words, and behind `--` the flags of training.train."""
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    return given[:end], given[end + 1 :]


def check(args: argparse.Namespace, flags: Sequence[str]) -> None:
    if not flags:
        raise UserError("the flags of training.train are missing: -- deeplabv3plus --epochs 25")
    for drive in args.drives:
        if drive not in SCORED:
            raise UserError(f"{drive} is no drive of CamVid's train split: choose from {', '.join(SCORED)}")
    if args.beside and args.beside not in figures():
        raise UserError(f'no row is called "{args.beside}": {", ".join(figures()) or "there is none yet"}')
    if not (args.camvid / "train").is_dir() or not (args.camvid / "trainannot").is_dir():
        raise UserError(f"{args.camvid} has no folders train and trainannot, as CamVid has")


def figures() -> dict[str, Row]:
    """The rows by label, in the order in which they were made."""
    known: dict[str, Row] = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    return known


def in_folders(label: str) -> str:
    """How the name of a run folder has a label."""
    return "".join(character if character.isalnum() else "_" for character in label)


def keep(label: str, row: Row) -> dict[str, Row]:
    """All rows with this one, as the file has them now: another row may have been measured beside it, for hours."""
    known = {**figures(), label: row}
    write_json(FIGURES, known)
    return known


def links(camvid: Path, drive: str) -> Path:
    """CamVid's layout with that drive as val and the others as train, both from its train split."""
    if drive == VAL:
        return camvid
    folder = FOLDER / drive
    for kind in ("", "annot"):
        for file in sorted((camvid / f"train{kind}").resolve().glob("*.png")):
            place = folder / f"{'val' if file.name.startswith(drive) else 'train'}{kind}"
            place.mkdir(parents=True, exist_ok=True)
            if not (place / file.name).is_symlink():
                (place / file.name).symlink_to(file)
    if not (folder / "val").is_dir():
        raise UserError(f"{camvid}/train has no image of the drive {drive}: a name that begins so")
    return folder


def measured(args: argparse.Namespace, flags: Sequence[str], drive: str, seed: int) -> dict[str, float]:
    """Train, or go on, and export: mIoU in percent of Keras and of the int8 file, on the drive left out."""
    name = f"unseen-{in_folders(args.label)}-{drive}-{seed}"
    print(f"\n{args.label}: without {drive}, seed {seed}", flush=True)
    data = ["--data", "camvid", "--data-dir", str(links(args.camvid, drive))]
    run("training.train", *flags, *data, "--seed", str(seed), "--name", name)
    file = Path("runs") / name / "export" / "unseen_int8.tflite"
    if not file.exists():
        run("export", f"runs/{name}", "--precision", "int8", "--allow-loss", ANY_LOSS, "--out", str(file))
    parity = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["parity"]
    found = pair(parity) | {f"corrupted {kind}": score for kind, score in pair(parity["corrupted"]).items()}
    if drive != VAL:
        found |= {"val float": on_val(args, f"runs/{name}"), "val int8": on_val(args, str(file))}
    return found


def pair(parity: dict[str, Any]) -> dict[str, float]:
    return {"float": 100 * parity["keras"]["miou"], "int8": 100 * parity["file"]["miou"]}


def on_val(args: argparse.Namespace, subject: str) -> float:
    """mIoU in percent on CamVid's own `val`, of a run that one drive was left out of."""
    out = FOLDER / "on-val"
    data = ["--data", "camvid", "--data-dir", str(args.camvid), "--split", "val"]
    run("training.evaluate", subject, *data, "--metrics", "none", "--out", str(out))
    miou: float = json.loads((out / "scores.json").read_text(encoding="utf-8"))["miou"]
    return 100 * miou


def run(module: str, *arguments: str) -> None:
    if code := subprocess.run([sys.executable, "-m", module, *arguments]).returncode:
        raise UserError(f"python -m {module} ended with {code}; what it said stands above")


COLUMNS = (
    "network", *(f"{one}: float, int8" for one in SCORED), "mean of the drives", "lost to int8", "corrupted", "beside",
)  # fmt: skip
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def line(label: str, row: Row, known: dict[str, Row]) -> str:
    """A row of the table; a drive that was not left out is 'not measured'."""
    scores = {drive: list(row["drives"].get(drive, {}).values()) for drive in SCORED}
    on_drives = [one for drive in DRIVES for one in scores[drive]]
    in_passing = [one for one in on_drives if "val float" in one]
    on_val = both(scores[VAL]) if scores[VAL] or not in_passing else f"{both(in_passing, 'val ')} *"
    cells = [label, on_val, *(both(scores[drive]) for drive in DRIVES)]
    cells.append(both(on_drives if all(scores[drive] for drive in DRIVES) else []))
    cells.append(spread([one["float"] - one["int8"] for one in on_drives]) if on_drives else "not measured")
    cells.append(both([one for one in on_drives if "corrupted float" in one], "corrupted "))
    return f"| {' | '.join([*cells, beside(row, known)])} |"


def both(values: Sequence[dict[str, float]], of: str = "") -> str:
    if not values:
        return "not measured"
    return ", ".join(f"{statistics.mean(one[of + kind] for one in values):.2f}" for kind in ("float", "int8"))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, the latter of two values or more."""
    mean = f"{statistics.mean(values):+.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def beside(row: Row, known: dict[str, Row]) -> str:
    """What the int8 file gains on the row that it is compared with, on the drives and seeds that both have."""
    if not row.get("beside"):
        return ""
    other = known[row["beside"]]["drives"]
    gains = [
        seeds[seed]["int8"] - other[drive][seed]["int8"]
        for drive, seeds in row["drives"].items()
        for seed in seeds
        if drive != VAL and seed in other.get(drive, {})
    ]
    if not gains:
        return f"{row['beside']}: no drive and seed in common"
    found = f"{row['beside']}: {spread(gains)}"
    if len(gains) == 1:
        return f"{found}, one drive"
    return f"{found}, within the spread" if abs(statistics.mean(gains)) <= statistics.stdev(gains) else found


def page(known: dict[str, Row]) -> str:
    """The whole page."""
    parts = [HEAD, HEADER, *(line(label, row, known) for label, row in known.items()), "", COMMANDS]
    for label, row in known.items():
        command = f'python -m benchmarks.unseen DIR --label "{label}" -- {" ".join(row["flags"])}'
        parts += [f"- **{label}**, {row['date']}, {row['machine']}:", f"  `{command}`"]
    return "\n".join([*parts, ""])


HEAD = f"""\
# On a drive that training has not seen

Made by `python -m benchmarks.unseen`. CamVid's `val` is of a drive that `train` has images of too, so it flatters. Here
one drive of `train` is left out ({", ".join(DRIVES)} have 62, 101 and 204 images), the network is trained on the two
others and scored on it: mIoU in percent over 11 classes at 480x360, single scale, void ignored. `float` is Keras',
`int8` that of the exported file. A ± is the standard deviation over drives and seeds; "lost to int8", "corrupted" (one
corruption of severity 2 an image, as in the parity gate) and "beside", what the int8 file gains on another row, are of
the drives alone. A * marks a score on `val` of the very networks that were scored on the drives, which learnt from
fewer images than `train` has.
"""
COMMANDS = """\
The commands; `DIR` is CamVid's folder.
"""


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
