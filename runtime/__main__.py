"""`python -m runtime MODEL.tflite IMAGE_OR_FOLDER_OR_VIDEO --out DIR`: masks, overlays, shares as files."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_whole
from runtime.image import IMAGE_SUFFIXES, read_rgb
from runtime.segmenter import Segmenter
from runtime.video import SUFFIXES as VIDEO_SUFFIXES
from runtime.video import live_line, segment_video

EPILOG = """\
for each image NAME:  NAME_mask.png (grey: the pixel's value is the class id), NAME_overlay.png,
                      NAME.json (size, seconds, and id, name, colour and share of each class that is there)
for a video NAME:     NAME_overlay.mp4 and NAME.json
A folder keeps its subfolders. Files that cannot be read are listed and the run goes on.
exit code:            0 all well, 2 bad arguments or a file that could not be read, 130 stopped by Ctrl-C

example:              python -m runtime models/x.tflite photos/ --out masks/
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m runtime",
        description="Segment an image, a folder of images or a video with a .tflite model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("model", type=Path, metavar="MODEL.tflite", help="any .tflite semantic segmenter")
    result.add_argument("input", type=Path, metavar="INPUT", help="an image, a folder of images, or a video")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    result.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default 2)")
    result.add_argument(
        "--opacity",
        type=float,
        default=0.5,
        metavar="F",
        help="of the overlay's colours, 0 to 1 (default 0.5)",
    )
    result.add_argument(
        "--polygons", action="store_true", help="add the outlines of all regions to each JSON"
    )
    result.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    return result


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if not 0.0 <= args.opacity <= 1.0:
        raise UserError(f"--opacity is {args.opacity}; it has to be from 0 to 1.")
    if not args.input.exists():
        raise UserError(f"{args.input} does not exist; name an image, a folder of images, or a video.")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file; name a folder.")
    segmenter = Segmenter(args.model, threads=args.threads).warm_up()
    if args.input.suffix.lower() in VIDEO_SUFFIXES and args.input.is_file():
        return run_video(segmenter, args)
    return run_images(segmenter, args)


def run_video(segmenter: Segmenter, args: argparse.Namespace) -> int:
    overlay = args.out / f"{args.input.stem}_overlay.mp4"
    report = args.out / f"{args.input.stem}.json"
    refuse_existing([overlay, report], args.overwrite)
    complete = segment_video(segmenter, args.input, overlay, report, args.opacity, live_line)
    live_line("")
    facts = json.loads(report.read_bytes())
    print(
        f"{overlay}: {facts['frames']} frames at {facts['frames_per_second']} frames/s"
        + ("" if complete else " (stopped early; the file plays)")
    )
    return 0 if complete else 130


def run_images(segmenter: Segmenter, args: argparse.Namespace) -> int:
    jobs = planned(args.input, args.out)
    refuse_existing([path for stem in jobs.values() for path in outputs(stem)], args.overwrite)
    start, times, bad = time.perf_counter(), [], 0
    for number, (source, stem) in enumerate(jobs.items(), start=1):
        try:
            times.append(segment_image(segmenter, source, stem, args.opacity, args.polygons))
        except UserError as error:
            bad += 1
            live_line("")
            print(f"bad: {error}", file=sys.stderr)
        spent = time.perf_counter() - start
        left = spent / number * (len(jobs) - number)
        live_line(f"image {number}/{len(jobs)}  {number / spent:.1f} images/s  {left:.0f} s left")
    live_line("")
    print(summary(times, bad, time.perf_counter() - start, args.out))
    return 2 if bad else 0


def segment_image(segmenter: Segmenter, source: Path, stem: Path, opacity: float, polygons: bool) -> float:
    """Write one image's three files; seconds spent on segmenting alone."""
    found = segmenter.segment(read_rgb(source))
    facts: dict[str, Any] = {"image": source.name, "model": segmenter.path.name, **found.report()}
    if polygons:
        facts["polygons"] = found.polygons()
    mask, overlay, report = outputs(stem)
    write_whole(mask, found.mask_png())
    write_whole(overlay, found.overlay_png(opacity))
    write_whole(report, (json.dumps(facts, indent=2) + "\n").encode())
    return found.seconds


def planned(source: Path, out: Path) -> dict[Path, Path]:
    """Each image to read -> the stem of what is written for it, different for each."""
    if source.is_file():
        return {source: out / source.stem}
    if out.resolve() == source.resolve():
        raise UserError(f"--out {out} is the folder of the images; name another, so that they do not mix.")
    images = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
        and not path.resolve().is_relative_to(out.resolve())
    ]
    if not images:
        raise UserError(f"{source} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read.")
    stems = [out / path.relative_to(source).with_suffix("") for path in images]
    # a.jpg and a.png would overwrite each other: they keep their suffix.
    return {
        path: stem.with_name(path.name.replace(".", "_")) if stems.count(stem) > 1 else stem
        for path, stem in zip(images, stems, strict=True)
    }


def outputs(stem: Path) -> tuple[Path, Path, Path]:
    return (
        stem.with_name(f"{stem.name}_mask.png"),
        stem.with_name(f"{stem.name}_overlay.png"),
        stem.with_name(f"{stem.name}.json"),
    )


def refuse_existing(paths: list[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} exists already; give --overwrite or another --out.")


def summary(times: list[float], bad: int, seconds: float, out: Path) -> str:
    text = f"{len(times)} image{'s' * (len(times) != 1)} in {seconds:.1f} s"
    if times:
        middle = sorted(times)[len(times) // 2]
        text += f" ({len(times) / seconds:.1f} images/s with files, {middle * 1e3:.1f} ms to segment one)"
        text += f" -> {out}"
    return text + (f"; {bad} could not be read" if bad else "")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop from outside ends as tidily as Ctrl-C
    sys.exit(exit_on_user_error(main))
