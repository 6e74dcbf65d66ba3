"""Milliseconds of `.tflite` segmenters beside each other, on one and two threads, and how near to what the machine can.

    python -m benchmarks.device FILE.tflite ... [--peers DIR] [--size 512x512]   # files, and all of DIR, side by side
    python -m benchmarks.device FILE.tflite --ops                               # where the time of a file goes
    python -m benchmarks.device --untrained mobilenet_v2 --peers DIR            # the shipped network at MLPerf's task
    python -m benchmarks.device --untrained ddrnet pidnet --size 360x480 --classes 11     # networks of the zoo

All files live in one process and take turns, one image a turn: the whole path (uint8 image in, class ids at the
image's size out) and the model alone; medians, and the spread from the 10th to the 90th percentile.

The roofline is the best rate of convolution that was found on this machine in the same run (roofline.py). A file's GOPS
are its operations (two a multiply-accumulate, of its convolutions and matrix products) by its time; its share is that
of the roofline of its own kind.

--untrained makes an int8 file of each network as its CamVid recipe has it, at the image's size; the name of a backbone
means DeepLabV3+ on it, MODEL/BACKBONE another model on it, MODEL/BACKBONE/32 with an output stride of 32. 32 classes,
as MLPerf Mobile's reference has them, unless --classes says otherwise; --mask-stride is that of `export`. The weights
are random, which no time depends on.

--ops gives the time of each operation beside its bound (operations.py), for each number of threads.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.operations import operations, roofs
from benchmarks.roofline import kind_of, macs, rate_of, roof
from export import surgery, tflite
from export.mask_stride import coarser
from runtime.benchmark import measure
from runtime.errors import UserError, exit_on_user_error
from runtime.image import resize_rgb
from runtime.segmenter import Segmenter
from training.command_line import size
from training.data import scenes
from training.runs.recipe import default_recipe

DEEPLAB = "deeplabv3plus"


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.device", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("files", nargs="*", type=Path, metavar="FILE.tflite")
    command.add_argument("--peers", type=Path, metavar="DIR", help="a folder of further .tflite files")
    command.add_argument("--size", default="512x512", metavar="HxW", help="of the image (default 512x512)")
    command.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="default 1 2")
    command.add_argument("--runs", type=int, default=50, help="turns of each file (default 50)")
    command.add_argument(
        "--untrained", nargs="+", default=[], metavar="NAME", help="networks of ours, made for this run"
    )
    command.add_argument("--classes", type=int, default=32, help="of these networks (default 32)")
    command.add_argument("--mask-stride", type=int, choices=(1, 2, 4), default=1, help="of these networks")
    command.add_argument("--ops", action="store_true", help="where the time of each FILE goes")
    options = command.parse_args(argv)
    files = [*options.files, *(sorted(options.peers.glob("*.tflite")) if options.peers else ())]
    if not (files or options.untrained):
        raise UserError(
            "there is nothing to measure: name .tflite files, a folder of them with --peers, or --untrained"
        )
    if options.runs < 1 or min(options.threads) < 1:
        raise UserError("--runs and --threads have to be 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        made = [
            untrained(name, options.classes, size(options.size), Path(folder), options.mask_stride)
            for name in options.untrained
        ]
        for threads in options.threads:
            if options.ops:
                most = roofs(threads)
                for file in [*made, *files]:
                    print(operations(file, threads, options.runs, most), flush=True)
                continue
            print(side_by_side([*made, *files], image(size(options.size)), threads, options.runs))
    return 0


def untrained(name: str, classes: int, height_width: tuple[int, int], folder: Path, stride: int = 1) -> Path:
    """A network as its CamVid recipe has it, or DeepLabV3+ on a backbone, as an int8 `mask` file in `folder`."""
    import keras

    import zoo

    named = name if name.split("/")[0] in zoo.MODELS else f"{DEEPLAB}/{name}"
    model_name, backbone, output_stride = [*named.split("/"), "", ""][:3]
    recipe = default_recipe(model_name, "camvid")
    options = {key: recipe[key] for key in ("backbone", "output_stride") if key in recipe}
    options |= {**recipe.get("model_options", {}), **({"backbone": backbone} if backbone else {})}
    options |= {"output_stride": int(output_stride)} if output_stride.isdigit() else {}
    try:
        model = zoo.build(model_name, classes=classes, image_size=height_width, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--untrained {name}: {error}") from error
    parameters = keras.Model(
        model.input, model.output["logits"]
    ).count_params()  # less what serves the loss alone
    print(f"untrained {name}: {parameters / 1e6:.2f}M parameters", flush=True)
    images = [scenes.draw(0, index, height_width).image for index in range(4)]
    path = folder / f"untrained_{name.replace('/', '_')}.tflite"
    flatbuffer = tflite.convert(model, height_width, "int8", "mask", images, correct=False)
    path.write_bytes(coarser(flatbuffer, stride) if stride > 1 else flatbuffer)
    return path


def image(height_width: tuple[int, int]) -> np.ndarray:
    """A drawn street, uint8 (H, W, 3)."""
    return resize_rgb(scenes.draw(0, 0, (512, 512)).image, height_width)


def side_by_side(files: Sequence[Path], rgb: np.ndarray, threads: int, runs: int) -> str:
    """One table: each file's time, the ratio to the first of the model's medians, GMACs, GOPS, share of the roof."""
    roofs = {kind: rate_of(roof(kind), threads) for kind in ("int8", "float32")}
    rows = measure([Segmenter(file, threads=threads) for file in files], rgb, runs)
    text = [
        f"\n{threads} thread{'s' * (threads > 1)}, an image of {rgb.shape[0]}x{rgb.shape[1]}, {runs} turns; "
        f"roofline {roofs['int8']:.0f} GOPS in int8, {roofs['float32']:.0f} in float32\n",
        "| file | kind | input | whole, ms | model, ms (p10..p90) | to the first | GMACs | GOPS | of the roofline |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = rows[0]["model_ms"]["median"]
    for file, row in zip(files, rows, strict=True):
        model = surgery.read(file.read_bytes())
        kind, gmacs, spread = kind_of(model), macs(model) / 1e9, row["model_ms"]
        gops = 2000 * gmacs / spread["median"]
        text.append(
            f"| {file.name} | {kind} | {row['input'][0]}x{row['input'][1]} | {row['whole_ms']['median']:.1f} "
            f"| {spread['median']:.1f} ({spread['p10']:.1f}..{spread['p90']:.1f}) | {spread['median'] / first:.2f} "
            f"| {gmacs:.2f} | {gops:.0f} | {gops / roofs[kind]:.0%} |"
        )
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
