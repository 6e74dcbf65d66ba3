"""A checkpoint on disk -> FILE.weights.h5 and FILE.json: read, recognised, built, assigned, and told what
became of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

import zoo
from runtime.class_names import MOST_CLASSES
from runtime.errors import UserError, first_line
from runtime.stderr import stderr_closed
from zoo.convert import model_config, recognise
from zoo.convert.assign import Report, assign, check_size
from zoo.convert.checkpoint import Checkpoint, Match
from zoo.convert.files import readers
from zoo.convert.options import Options, text

SHOWN = 6  # names of tensors that a line lists before it counts the rest
Say = Callable[[str], None]


def convert(
    path: Path,
    out: Path,
    name: str,
    say: Say,
    *,
    source: str | None = None,
    options: Options | None = None,
    classes: int | None = None,
) -> None:
    """Convert a file or folder to `out`, FILE.weights.h5, with FILE.json beside it.

    `name` is what the checkpoint is called from now on, `source` how messages call it (the name if not given),
    `options` what it does not say itself, `classes` another number of them, for which the head is new and
    random. What it was found to be is said, a line at a time. UserError, and nothing written, where it cannot
    be converted.
    """
    read = readers.read(path)
    with stderr_closed():  # the first tensor starts the devices, with notes that nobody can act upon
        keras.ops.zeros(1)
    try:
        match = _recognise(replace(read.checkpoint, options=options or Options()))
        arguments = of_classes(match.model, match.arguments, classes)
        say(f"{name}: {_described(match)}")
        model = _build(match, arguments)
        report = assign(model, match, new_head=classes is not None)
        _check_head(model, report, arguments)
    except ValueError as error:
        raise UserError(f"{source or name} {str(error).rstrip('.')}.") from error
    _tell(report, match, arguments, say)
    _tell_assumed(read.checkpoint, match, say)
    model_config.write(out, model, model_config.of(match, arguments, name, read.sha256))


def _recognise(checkpoint: Checkpoint) -> Match:
    try:
        return recognise(checkpoint)
    except (KeyError, IndexError) as error:  # a source looked for what tells the variant
        raise ValueError(f"lacks {error!s:.200}, which would tell what variant it is") from error
    except (TypeError, AttributeError, ArithmeticError) as error:  # text where a number should be, say
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(f"has a configuration that does not fit it ({reason})") from error


def of_classes(model: str, arguments: Mapping[str, Any], classes: int | None) -> Mapping[str, Any]:
    """The arguments with the number of classes that was asked for."""
    if classes is None:
        return arguments
    if "classes" not in arguments:
        raise ValueError(f"is a {model}, which has no classes; leave --classes out")
    if classes < 2:
        raise ValueError(f"can have 2 classes or more, not {classes}")
    if classes > MOST_CLASSES:
        raise ValueError(
            f"can have up to {MOST_CLASSES} classes, which fit into ids of 8 bits, not {classes}"
        )
    return {**arguments, "classes": classes}


def _build(match: Match, arguments: Mapping[str, Any]) -> keras.Model:
    try:
        check_size(match, arguments)
        return zoo.build(match.model, **arguments)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"asks for a {match.model} that cannot be built: {first_line(error):.300}"
        ) from error


def _check_head(model: keras.Model, report: Report, arguments: Mapping[str, Any]) -> None:
    """What was left random must be of the classes, with or without one more for "nothing" (Mask2Former)."""
    sizes = {variable.path: variable.shape[-1] for variable in model.weights}
    for path in report.fresh:
        if sizes[path] - arguments["classes"] not in (0, 1):
            raise ValueError(
                f"has another size in {path}, which is not of the classes: its variant is not known"
            )


def _described(match: Match) -> str:
    options = ", ".join(f"{key} {value}" for key, value in match.arguments.items() if key != "classes")
    return f"{match.model} of {match.source}" + (f" ({options})" if options else "")


def _tell(report: Report, match: Match, arguments: Mapping[str, Any], say: Say) -> None:
    say(f"tensors: {len(report.used)} used, {len(report.left_over)} left over, 0 missing")
    if report.left_over:
        say(f"left over: {some(report.left_over)}")
    if "classes" not in arguments:
        return
    found, asked = match.arguments["classes"], arguments["classes"]
    names = f": {some(match.classes)}" if match.classes and found == asked else ""
    say(f"classes: {asked}{names}" if found == asked else f"classes: {asked} in place of {found}")
    if report.fresh:
        say(f"new and random, to be trained: {some(report.fresh)}")


def _tell_assumed(checkpoint: Checkpoint, match: Match, say: Say) -> None:
    """What nobody said, so that whoever trained otherwise can say it."""
    if match.assumed:
        pairs = " ".join(f"{name}={text(value)}" for name, value in match.assumed.items())
        say(f"assumed, as nothing in it says so: {pairs}")
        say("trained otherwise? convert it again with --set NAME=VALUE of these")
    if checkpoint.others:
        say(f"beside the network, and not read: {some(checkpoint.others)}")


def some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
