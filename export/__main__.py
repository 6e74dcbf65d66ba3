"""Export a trained run: python -m export runs/NAME [--format tflite] [--precision int8] [--output mask].

The file is compared with the run on real images of its val split before it gets its name; one that is not
as good as the run is not written.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export import (
    CALIBRATED,
    DEFAULT_PRECISION,
    EXPORTERS,
    INT8_TARGETS,
    MASK_STRIDES,
    OTHER_PRECISIONS,
    OUTPUTS,
    PRECISIONS,
    SUFFIXES,
    TARGETS,
    Job,
    check_installed,
    checked_size,
    exporter,
)
from runtime.errors import UserError, exit_on_user_error
from training.command_line import Parser
from training.data import mixture
from training.start_tensorflow import start_tensorflow

if TYPE_CHECKING:  # they bring TensorFlow: --help and a wrong flag answer at once
    from training.runs.converted_weights import Converted
    from training.runs.trained_model import StoredModel
    from training.runs.trained_run import Run


def parser() -> Parser:
    command = Parser(
        prog="python -m export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "run", metavar="RUN", help="a run folder, such as runs/NAME, or FILE.weights.h5 of zoo.convert"
    )
    source = command.add_argument_group("the images to compare and calibrate on")
    source.add_argument(
        "--data",
        metavar="DATA",
        help="of converted weights, a data set of the same classes, such as cityscapes",
    )
    source.add_argument(
        "--data-dir", metavar="DIR", nargs="+", help="its folder; of a run, where its data lies now"
    )
    source.add_argument("--classes", metavar="TAXONOMY", help="of converted weights, those of --data")
    source.add_argument("--images", metavar="DIR", help="or images without labels, which give no score")
    source.add_argument(
        "--pictures", dest="images", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )  # until 0.3
    command.add_argument(
        "--format",
        choices=tuple(EXPORTERS),
        default="tflite",
        help="tflite (the default): one file for phones and boards; saved_model: a folder for servers; onnx: a "
        "file for ONNX Runtime; openvino: a .xml and its .bin; weights: a FILE.weights.h5 that builds its own "
        "model, to hand on or to fine-tune from",
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="int8 (the default of tflite for most models): a quarter of the size, the fastest; mixed (that of "
        "segformer): int8 convolutions, the rest float; fp16: half the size; dynamic: int8 weights, float "
        "arithmetic; fp32: the same numbers as the run",
    )
    command.add_argument(
        "--output",
        choices=OUTPUTS,
        help="mask (the default): class ids (1, H, W), the fastest; scores: (1, H, W, classes), as MediaPipe "
        "needs them. A SavedModel always gives both",
    )
    _file_flags(command)
    _gate_flags(command)
    command.add_argument(
        "--threads", metavar="N", type=int, default=2, help="of the file during the comparison"
    )
    return command


def _file_flags(command: Parser) -> None:
    """How large images and masks are, and where the file goes."""
    command.add_argument(
        "--size",
        metavar="HxW",
        nargs="+",
        help="height and width that the file takes, those of the data if not given; a file each for several",
    )
    command.add_argument(
        "--mask-stride",
        type=int,
        choices=MASK_STRIDES,
        default=1,
        help="class ids of a mask on every second or fourth pixel only, which is faster; 1",
    )
    command.add_argument(
        "--target",
        choices=TARGETS,
        help="what an int8 .tflite is rewritten for: xnnpack (the default), LiteRT on a CPU; ethos-u55 and ethos-u65 "
        "leave little to the CPU beside them; gpu and edgetpu take what the converter writes. kerbside fit looks at it",
    )
    command.add_argument(
        "--confidence",
        action="store_true",
        help="a .tflite that tells how sure it is, measured on images of val; a mask file gets a second output for it",
    )
    command.add_argument(
        "--out", metavar="FILE", help="RUN/export/NAME-PRECISION-OUTPUT-HxW.tflite if not given"
    )


def _gate_flags(command: Parser) -> None:
    """What the gate compares on and lets pass, and what int8 is made from."""
    command.add_argument(
        "--calibration-images",
        metavar="N",
        type=int,
        default=100,
        help="train images that int8 and mixed learn ranges from",
    )
    command.add_argument(
        "--parity-images", metavar="N", type=int, help="val images to compare on; all if not given"
    )
    command.add_argument(
        "--allow-loss",
        metavar="POINTS",
        type=float,
        help="mIoU points that all but fp32 may lose, in place of the usual bound; recorded in the file",
    )
    command.add_argument(
        "--keep-float",
        metavar="OP",
        nargs="+",
        default=(),
        help="of int8 and mixed, ops that stay in float32, by their names in export.quantization_report",
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    _check_numbers(args)
    sizes = list(dict.fromkeys(map(checked_size, args.size or ())))
    _check_together(args, sizes)
    start_tensorflow()  # and only now what brings it: --help and a wrong flag answer at once
    from export.examples import examples_of, size_of_data
    from training.engine.validation import MODEL_TASKS
    from training.runs.trained_run import Run, load

    found = load(args.run)
    task = MODEL_TASKS.get(found.name, "semantic")
    run: StoredModel = _moved(found, args) if isinstance(found, Run) else _with_data(found, args)
    examples = examples_of(run, args.images)
    if task == "prompted":
        sizes = [_size_of_model(run, sizes)]
    jobs = [_job(run, task, args, size) for size in sizes or [size_of_data(run, examples)]]
    export = exporter(args.format, task)
    for job in jobs:
        written = export(run, job, examples)
        parts = _tell(run, task, args.format, written)
        if isinstance(run, Run) and args.format != "weights":
            _track(run.folder, parts)
    return 0


def _job(run: "StoredModel", task: str, args: argparse.Namespace, size: tuple[int, int]) -> Job:
    """What is asked for at one size; UserError when it cannot be written."""
    usual = OTHER_PRECISIONS.get(args.format, (DEFAULT_PRECISION.get(run.name, "int8"),))[0]
    precision, output = args.precision or usual, args.output or "mask"
    if task == "prompted" and precision == "mixed":
        raise UserError(f"{run.name} has no mixed precision: choose int8, dynamic, fp16 or fp32")
    if args.keep_float and (precision not in CALIBRATED or task == "prompted" or args.format != "tflite"):
        asked = precision if args.format == "tflite" else f"{args.format} {precision}"
        raise UserError(f"--keep-float is of semantic models in {' and '.join(CALIBRATED)}, not of {asked}")
    if args.mask_stride > 1 and (args.format != "tflite" or output != "mask" or task == "prompted"):
        raise UserError(f"--mask-stride {args.mask_stride} is of --format tflite --output mask")
    _check_target(args, precision, task)
    kind = output if args.mask_stride == 1 else f"{output}-stride{args.mask_stride}"
    out = Path(args.out) if args.out else default_out(run, args.format, precision, kind, size)
    _check_out(out, args.format)
    return Job(
        precision=precision,
        size=size,
        output=output,
        out=out,
        calibration_images=args.calibration_images,
        parity_images=args.parity_images,
        allow_loss=args.allow_loss,
        keep_float=tuple(args.keep_float),
        threads=args.threads,
        mask_stride=args.mask_stride,
        target=args.target or "xnnpack",
        confidence=args.confidence,
    )


def _check_target(args: argparse.Namespace, precision: str, task: str) -> None:
    """UserError for a --target that the file cannot have."""
    if args.target is None:
        return
    if args.format != "tflite" or task == "prompted":
        raise UserError(f"--target {args.target} is of a semantic model's .tflite, not of this: leave it out")
    if args.target in INT8_TARGETS and precision != "int8":
        raise UserError(
            f"--target {args.target} computes in 8 bits and takes no {precision}: add --precision int8"
        )


def _tell(run: "StoredModel", task: str, kind: str, written: Path) -> list[Path]:
    """Say what was written and what to do with it; the files, or the folder."""
    from training.runs import learnt_from

    total = sum(file.stat().st_size for file in [written, *written.rglob("*")] if file.is_file())
    print(f"{written}  {total / 1e6:.2f} MB")
    print(f"learnt from: {learnt_from.line(run.learnt_from)}")
    if kind == "weights":
        print(f"next: python -m training.train {run.name} --init {written} --data DATA")
        return [written]
    parts = [written]
    if task == "prompted":
        decoder = written.with_name(written.name.replace("-encoder", "-decoder"))
        parts.append(decoder)
        print(f"{decoder}  {decoder.stat().st_size / 1e6:.2f} MB")
        print(f"next: python -m runtime.prompted {written} {decoder} IMAGE --point X,Y --out masks")
    elif kind != "saved_model":
        if kind == "openvino":
            parts.append(written.with_suffix(".bin"))
            print(f"{parts[1]}  {parts[1].stat().st_size / 1e6:.2f} MB")
        print(f"next: python -m runtime {written} IMAGE --out masks")
    return parts


def _track(run_folder: Path, parts: list[Path]) -> None:
    """The run's MLflow gets what was written, with its facts."""
    from training.tracking import mlflow_store  # brings TensorFlow

    facts = [part.with_suffix(".json") for part in parts if part.is_file()]
    mlflow_store.add(run_folder, [*parts, *facts], "export")


def _with_data(run: "Converted", args: argparse.Namespace) -> "Converted":
    """Converted weights with the data that the command names, or with a folder of images."""
    if args.images and args.data:
        raise UserError("--images and --data exclude each other: name one of them")
    if args.data:
        return run.on(args.data, mixture.folders(args.data_dir, args.data), args.classes)
    if not args.images:
        raise UserError(
            f"{args.run} does not say what it was trained on: name the data to compare on with --data and "
            "--data-dir, or a folder of images with --images"
        )
    return run


def _moved(run: "Run", args: argparse.Namespace) -> "Run":
    """A run with its own data where the command says that it lies now, or with a folder of images in its place."""
    if args.data not in (None, run.data.name) or args.classes:
        given = f"--data {args.data}" if args.data not in (None, run.data.name) else "--classes"
        raise UserError(
            f"{args.run} is a run on {run.data.name} and is compared on that: leave {given} out; --data-dir says "
            "where it lies now, --images names images without labels"
        )
    if args.images and args.data_dir:
        raise UserError("--images and --data-dir exclude each other: name one of them")
    if args.images:
        return dataclasses.replace(run, labelled=False)
    if args.data_dir:
        run = run.at(args.data_dir)
        run.check_classes()
    return run


def default_out(run: "StoredModel", kind: str, precision: str, output: str, size: tuple[int, int]) -> Path:
    """FOLDER/export/NAME-PRECISION-OUTPUT-HxW.tflite (.onnx, .xml), NAME-saved_model-HxW, NAME-PRECISION.weights.h5."""
    name, shape = run.label, f"{size[0]}x{size[1]}"
    names = {"saved_model": f"{name}-saved_model-{shape}", "weights": f"{name}-{precision}.weights.h5"}
    usual = f"{name}-{precision}-{output}-{shape}{SUFFIXES.get(kind, '')}"
    return run.folder / "export" / names.get(kind, usual)


def _size_of_model(run: "StoredModel", wanted: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of a model whose position embeddings are for one size."""
    size = run.fixed_size
    if set(wanted) - {size}:
        raise UserError(f"{run.name} takes images of {size[0]}x{size[1]} only; leave --size out.")
    return size


def _check_together(args: argparse.Namespace, sizes: Sequence[tuple[int, int]]) -> None:
    """UserError for arguments that exclude each other."""
    known = OTHER_PRECISIONS.get(args.format)
    if known and args.precision not in (None, *known):
        raise UserError(
            f"--format {args.format} is written in {' or '.join(known)}; {args.precision} is for --format tflite."
        )
    if args.format in ("saved_model", "weights") and args.output is not None:
        raise UserError(f"--format {args.format} gives mask and scores alike; leave --output out.")
    if args.format == "weights" and sizes:
        raise UserError("weights are of no size; leave --size out.")
    check_installed(args.format)
    if args.out and len(sizes) > 1:
        raise UserError(
            f"--out {args.out} is one file, and --size asks for {len(sizes)}: leave --out out, or export one by one."
        )


def _check_numbers(args: argparse.Namespace) -> None:
    for option in ("calibration_images", "parity_images", "threads"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} is {value}: it must be 1 or more.")
    if args.allow_loss is not None and not 0 <= args.allow_loss <= 100:
        raise UserError(f"--allow-loss is {args.allow_loss:g}: it must be 0 to 100 mIoU points.")


def _check_out(out: Path, kind: str) -> None:
    """Before an hour's work, not after it."""
    suffix = SUFFIXES.get(kind, "")
    if not out.name.endswith(suffix) or (suffix and out.name == suffix):
        raise UserError(f"--out {out} must end in {suffix}, such as segformer{suffix}.")
    if kind != "saved_model" and out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file in it.")
    if kind == "saved_model" and out.exists() and not (out / "saved_model.pb").is_file():
        raise UserError(f"--out {out} exists and is no SavedModel; it is not overwritten.")


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
