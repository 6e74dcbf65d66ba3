"""`python -m runtime MODEL.tflite IMAGE_OR_FOLDER_OR_VIDEO --out DIR`: masks, overlays, shares as files."""

import argparse
import json
import math
import signal
import sys
import time
from array import array
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runtime import streams, strict_json
from runtime.encoding import memory_for
from runtime.errors import UserError, WriteError, exit_on_user_error
from runtime.files import write_together
from runtime.fit import FITS, checked_fit, naming
from runtime.folders import distinct, files_below
from runtime.image import IMAGE_SUFFIXES, read_rgb
from runtime.outlines import COCO_FILE, FORMATS, SIDE_FILES, chosen_classes, chosen_formats, coco_file
from runtime.segmenter import Segmentation, Segmenter
from runtime.video import SUFFIXES as VIDEO_SUFFIXES
from runtime.video import live_line, segment_video

EPILOG = """\
for each image NAME:  NAME_mask.png (grey: the pixel's value is the class id), NAME_overlay.png,
                      NAME.json (size, seconds, mean confidence, a doubt where the image is unlike what the model
                      knows, and id, name, colour and share of each class that is there)
--polygons:           json: into NAME.json; geojson: NAME.geojson; cityscapes: NAME_polygons.json;
                      coco: annotations_coco.json of all images
for a video NAME:     NAME_overlay.mp4 and NAME.json, or FILE.mp4 and FILE.json with --out FILE.mp4
A folder keeps its subfolders, linked ones too. Two images of one name keep their suffix: a_jpg_mask.png and so on.
Files that cannot be read are listed and the run goes on.
exit code:            0 all well, 2 bad arguments or a file that could not be read, 130 stopped by Ctrl-C

example:              python -m runtime models/x.tflite photos/ --out masks/
"""

ENDS = ("_mask.png", "_overlay.png", ".json")  # of what every image gets


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m runtime",
        description="Segment an image, a folder of images or a video with a .tflite model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "model",
        metavar="MODEL.tflite",
        help="any .tflite semantic segmenter, a name of kerbside list, or hf://OWNER/NAME",
    )
    result.add_argument(
        "input",
        type=lambda text: text if streams.is_stream(text) and not Path(text).is_file() else Path(text),
        metavar="INPUT",
        help="an image, a folder of images, a video, a camera (0, /dev/video0) or an address (rtsp://...)",
    )
    result.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the results go; a .mp4 for a video"
    )
    result.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default 2)")
    result.add_argument(
        "--opacity",
        type=float,
        default=0.5,
        metavar="F",
        help="of the overlay's colours, 0 to 1 (default 0.5)",
    )
    result.add_argument(
        "--polygons",
        metavar="FORMATS",
        help=f"outlines of all regions: any of {','.join(FORMATS)}",
    )
    result.add_argument(
        "--polygon-classes", metavar="NAMES", help="only of these classes, such as car,person"
    )
    result.add_argument(
        "--smooth",
        type=int,
        default=1,
        metavar="FRAMES",
        help="of a video: show a new class once it was seen in so many frames in a row (default 1: at once)",
    )
    result.add_argument(
        "--fit",
        default="auto",
        metavar="|".join(FITS),
        help="how an image of another shape than the model's comes before it (default auto: by its aspect)",
    )
    result.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of a video, camera or address: stop after so many (at Ctrl-C)",
    )
    result.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    return result


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if not 0.0 <= args.opacity <= 1.0:
        raise UserError(f"--opacity is {args.opacity}; it has to be from 0 to 1.")
    checked_fit(args.fit, "--fit")
    live = isinstance(args.input, str)
    if args.frames is not None and args.frames < 1:
        raise UserError(f"--frames is {args.frames}; it has to be 1 or more.")
    if not live and not args.input.exists():
        raise UserError(f"{args.input} does not exist; name an image, a folder of images, or a video.")
    video = live or args.input.suffix.lower() in VIDEO_SUFFIXES and args.input.is_file()
    _check_out(args.out, video)
    if args.polygon_classes and not args.polygons:
        raise UserError(
            "--polygon-classes chooses among outlines: say which with --polygons, such as geojson."
        )
    if video and args.polygons:
        raise UserError(f"--polygons is for images, and {args.input} is a video; leave it out.")
    if args.frames and not video:
        raise UserError(f"--frames is for videos, and {args.input} is none; leave it out.")
    if args.smooth != 1 and not video:
        raise UserError(f"--smooth is for videos, and {args.input} is none; leave it out.")
    formats = chosen_formats(args.polygons) if args.polygons else ()
    segmenter = Segmenter(args.model, threads=args.threads).warm_up()
    if video:
        return run_video(segmenter, args)
    return run_images(segmenter, args, formats)


def _check_out(out: Path, video: bool) -> None:
    if out.suffix.lower() in VIDEO_SUFFIXES:
        if not video:
            raise UserError(f"--out {out} is a video's name, but the input is none; name a folder.")
        if out.suffix.lower() != ".mp4":
            raise UserError(f"--out {out}: videos are written as .mp4.")
        if out.is_dir():
            raise UserError(f"--out {out} is a folder; name a .mp4 file.")
    elif out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder.")


def run_video(segmenter: Segmenter, args: argparse.Namespace) -> int:
    live = isinstance(args.input, str)
    shown = streams.shown(args.input) if live else args.input
    stem = streams.stem(args.input) if live else args.input.stem
    overlay, report = args.out / f"{stem}_overlay.mp4", args.out / f"{stem}.json"
    if args.out.suffix.lower() == ".mp4":
        overlay, report = args.out, args.out.with_suffix(".json")
        if not live and overlay.resolve() == args.input.resolve():
            raise UserError(f"--out {overlay} is the video itself; name another file.")
    refuse_existing([overlay, report], args.overwrite)
    facts = segment_video(
        segmenter,
        args.input,
        overlay,
        report,
        args.opacity,
        live_line,
        args.smooth,
        args.frames or math.inf,
        args.fit,
    )
    enough = facts["frames"] == args.frames
    live_line("")
    print(
        f"{overlay}: {facts['frames']} frames at {facts['frames_per_second']} frames/s"
        + ("" if facts["complete"] or enough else " (stopped early; the file plays)")
        + how_sure(facts["confidence"])
    )
    if facts["cut_off"]:
        raise UserError(
            f"{shown} is cut off: it announces {facts['frames_expected']} frames and holds {facts['frames']}; "
            f"{overlay} has those."
        )
    return 0 if facts["complete"] or enough else 130


def how_sure(found: dict[str, Any] | None) -> str:
    """What `runtime.video.sureness` found, in words."""
    if not found:
        return ""
    text = ""
    if "mean" in found:
        text = f"; mean confidence {found['mean']:.0%}, lowest {found['lowest']:.0%} in frame {found['lowest_frame']}"
    return text + (
        f"; {found['doubtful_frames']} frames unlike what the model knows" if found["doubtful_frames"] else ""
    )


def run_images(segmenter: Segmenter, args: argparse.Namespace, formats: Collection[str]) -> int:
    classes = chosen_classes(args.polygon_classes, segmenter.labels)
    jobs = planned(args.input, args.out)
    coco = args.out / COCO_FILE
    written = (path for stem in jobs.values() for path in outputs(stem, formats))
    refuse_existing([*written, *([coco] if "coco" in formats else [])], args.overwrite)
    start, times, bad, unwritten, doubtful = time.perf_counter(), array("d"), 0, 0, 0
    with coco_file(coco, segmenter, classes) if "coco" in formats else nullcontext() as annotations:
        for number, (source, stem) in enumerate(jobs.items(), start=1):
            try:
                with memory_for(str(source)):
                    found = segment_image(segmenter, source, stem, args, formats, classes)
                times.append(found.seconds)
                doubtful += bool(found.doubt)
                if annotations:
                    annotations.add(str(stem.relative_to(args.out).with_name(source.name)), found)
            except WriteError as error:
                if not error.full:
                    unwritten += 1
                    live_line("")
                    print(f"bad: {error}", file=sys.stderr)
                    continue
                live_line("")
                raise UserError(
                    f"{error.what}, after {len(times)} of {len(jobs)} images, which are whole; make "
                    "room, then give the same command with --overwrite."
                ) from error
            except UserError as error:
                bad += 1
                live_line("")
                print(f"bad: {error}", file=sys.stderr)
            spent = time.perf_counter() - start
            left = spent / number * (len(jobs) - number)
            live_line(f"image {number}/{len(jobs)}  {number / spent:.1f} images/s  {left:.0f} s left")
    live_line("")
    if doubtful and len(jobs) == 1:
        print(found.doubt)
    elif doubtful:
        print(
            f'{doubtful} of {len(times)} images are unlike what the model knows: "doubt" in their .json says how'
        )
    print(summary(times, bad, time.perf_counter() - start, args.out, unwritten))
    return 2 if bad or unwritten else 0


def segment_image(
    segmenter: Segmenter,
    source: Path,
    stem: Path,
    args: argparse.Namespace,
    formats: Collection[str],
    classes: Collection[int] | None,
) -> Segmentation:
    """Write one image's files, and give what was found."""
    rgb = read_rgb(source)
    with naming(source):
        fit = segmenter.placing((rgb.shape[0], rgb.shape[1]), args.fit).fit
    found = segmenter.segment(rgb, fit)
    facts: dict[str, Any] = {
        "image": source.name,
        "model": segmenter.path.name,
        "fit": fit,
        **found.report(),
    }
    if "json" in formats:
        facts["polygons"] = found.polygons(classes=classes)
    mask, overlay, report, *sides = outputs(stem, formats)
    shapes = [content for name, (_, content) in SIDE_FILES.items() if name in formats]
    written = {mask: found.mask_png(), overlay: found.overlay_png(args.opacity)}
    for path, content in zip(sides, shapes, strict=True):
        written[path] = (json.dumps(content(found, classes)) + "\n").encode()
    written[report] = strict_json.written(facts)
    write_together(written)  # no mask stands there without its overlay
    return found


def planned(source: Path, out: Path) -> dict[Path, Path]:
    """Each image to read -> the stem of what is written for it, different for each."""
    if source.is_file():
        return {source: out / source.stem}
    if out.resolve() == source.resolve():
        raise UserError(f"--out {out} is the folder of the images; name another, so that they do not mix.")
    results = out.resolve()
    images = [
        path for path in files_below(source, IMAGE_SUFFIXES) if not path.resolve().is_relative_to(results)
    ]
    if not images:
        raise UserError(f"{source} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read.")
    names = [path.relative_to(source) for path in images]
    plain = [name.with_suffix("").as_posix() for name in names]
    # a.jpg and a.png would overwrite each other: they keep their suffix.
    longer = [name.with_name(name.name.replace(".", "_")).as_posix() for name in names]
    ends = [*ENDS, *(suffix for suffix, _ in SIDE_FILES.values())]
    own = distinct(plain, longer, ends, [COCO_FILE])
    return {path: out / name for path, name in zip(images, own, strict=True)}


def outputs(stem: Path, formats: Collection[str] = ()) -> list[Path]:
    """The files of one image: mask, overlay, JSON, and the outlines that have files of their own."""
    sides = [suffix for name, (suffix, _) in SIDE_FILES.items() if name in formats]
    return [stem.with_name(f"{stem.name}{end}") for end in (*ENDS, *sides)]


def refuse_existing(paths: list[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} exists already; give --overwrite or another --out.")


def summary(times: Sequence[float], bad: int, seconds: float, out: Path, unwritten: int = 0) -> str:
    text = f"{len(times)} image{'s' * (len(times) != 1)} in {seconds:.1f} s"
    if times:
        middle = sorted(times)[len(times) // 2]
        text += f" ({len(times) / seconds:.1f} images/s with files, {middle * 1e3:.1f} ms to segment one)"
        text += f" -> {out}"
    text += f"; {bad} could not be read" if bad else ""
    return text + (f"; {unwritten} could not be written" if unwritten else "")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop from outside ends as tidily as Ctrl-C
    sys.exit(exit_on_user_error(main))
