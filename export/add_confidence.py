"""How sure it is, for a `.tflite` that was exported without: python -m export.add_confidence FILE --data camvid ...

The weights and the class ids stay as they are. A mask file gets its second output (export/coarse_scores.py), its note
what was measured on the images (export/confidence.py); all else that it says is kept.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.bundle import read_bundle, read_model
from runtime.confidence import FACT, STEP
from runtime.errors import UserError, exit_on_user_error
from training.command_line import Parser
from training.data import mixture
from training.start_tensorflow import start_tensorflow


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m export.add_confidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, metavar="FILE.tflite", help="one that export wrote")
    command.add_argument(
        "--data", required=True, metavar="DATA", help="a data set of its classes, such as camvid"
    )
    command.add_argument("--data-dir", metavar="DIR", nargs="+", help="the data set's folder")
    command.add_argument("--classes", metavar="TAXONOMY", default="", help="those of --data")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.tflite", help="what is written")
    args = command.parse_args(argv)
    bundle = read_bundle(args.file)
    if bundle is None:
        raise UserError(f"{args.file} is none of our files: its labels and its size are not known")
    if FACT in bundle.facts:
        raise UserError(f"{args.file} tells already how sure it is")
    if args.out.suffix != ".tflite":
        raise UserError(f"--out {args.out} must end in .tflite")
    start_tensorflow()  # and only now what brings it: --help and a wrong flag answer at once
    from export import coarse_scores, confidence, metadata, provenance, tflite
    from training.runs.settings import DataSettings
    from training.runs.trained_run import load_split

    settings = DataSettings(args.data, mixture.folders(args.data_dir, args.data), args.classes)
    spec, val = load_split(settings, "val")
    if spec.classes != bundle.labels:
        raise UserError(
            f"{args.file} has the classes {', '.join(bundle.labels)}, and {args.data} has {', '.join(spec.classes)}"
        )
    train = load_split(settings, "train")[1]
    flatbuffer, stride = (
        read_model(args.file)[: bundle.facts["flatbuffer_bytes"]],
        bundle.facts.get("mask_stride", 1),
    )
    candidate = tflite.predictor(flatbuffer, bundle.output)
    step = max(1, STEP // stride) if bundle.output == "mask" else 0
    if step:
        flatbuffer = coarse_scores.add(flatbuffer, len(spec.classes), step)
        given = (bundle.size[0] // stride, bundle.size[1] // stride)
        flatbuffer = metadata.add(
            flatbuffer, name=bundle.model, output=bundle.output, size=bundle.size, given=given
        )
    if stride > 1:
        from export.mask_stride import brought_back

        candidate = brought_back(candidate, bundle.size)
    found = confidence.measured(
        candidate, spec, True, bundle.size, lambda split: train if split == "train" else val, step
    )
    provenance.write(args.out, flatbuffer, {**bundle.facts, FACT: found})
    print(f"{args.out}  {args.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
