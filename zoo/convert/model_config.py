"""FILE.weights.h5, and FILE.json, the config that says how to build its model again: what a conversion writes, and
`python -m export --format weights`."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

import zoo
from runtime import strict_json
from runtime.class_names import mended
from runtime.errors import UserError, first_line
from runtime.files import file_sha256, whole_file
from zoo.convert.checkpoint import Match
from zoo.convert.files import h5, h5_writer

FORMAT = 1
SUFFIX = ".weights.h5"
KEYS: dict[str, Any] = {
    "format": int,
    "model": str,
    "arguments": dict[str, Any],
    "classes": list[str] | None,
    "palette": list[tuple[int, int, int]] | None,
    "source": dict[str, Any],
    "weights_sha256": str,
}


def config_path(weights: Path) -> Path:
    """FILE.weights.h5 -> FILE.json."""
    return weights.with_name(weights.name.removesuffix(SUFFIX) + ".json")


def of(match: Match, arguments: Mapping[str, Any], name: str, sha256: str) -> dict[str, Any]:
    """The config of a conversion: `arguments` are those that the model was built with, without image_size; `name` and
    `sha256` tell the checkpoint, `assumed` what was taken for what it does not say. Class names and colours are the
    checkpoint's where it has as many classes."""
    count = arguments.get("classes")
    names = mended(match.classes or ())
    return {
        "format": FORMAT,
        "model": match.model,
        "arguments": dict(arguments),
        "classes": list(names) if names and len(names) == count else None,
        "palette": match.palette if match.palette and len(match.palette) == count else None,
        "source": {"kind": match.source, "name": name, "sha256": sha256, "assumed": dict(match.assumed)},
    }


def write(weights: Path, model: keras.Model, facts: Mapping[str, Any], half: bool = False) -> None:
    """Write a model's weights and its config, `facts`, both or neither; `half` keeps float16 of them. Raises UserError
    when the disk refuses."""
    content = h5_writer.weights_bytes(model, half)
    with whole_file(config_path(weights)) as config_part, whole_file(weights) as weights_part:
        weights_part.write_bytes(content)
        facts = {**facts, "weights_sha256": hashlib.sha256(content).hexdigest()}
        config_part.write_bytes(strict_json.written(facts))


def read(path: Path) -> dict[str, Any]:
    """The config of FILE.json or FILE.weights.h5, with tuples for its lists. Raises UserError when it is none."""
    weights, path = path, config_path(path) if path.name.endswith(SUFFIX) else path
    if weights != path and weights.is_file() and not path.is_file():
        raise UserError(f"{weights} cannot be used alone: {missing(weights)}.")
    try:
        config = strict_json.read(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {first_line(error)}; convert the checkpoint again."
        ) from error
    try:
        strict_json.checked(config, KEYS)
    except ValueError as error:
        raise UserError(
            f"{path} is not what zoo.convert writes ({error}); convert the checkpoint again."
        ) from error
    if config["format"] != FORMAT:
        raise UserError(
            f"{path} is of format {config['format']}, but this version reads {FORMAT}: convert again."
        )
    return tuples(config)


def rebuild(path: str | Path, image_size: tuple[int, int] | None = None) -> keras.Model:
    """The converted model of FILE.json or FILE.weights.h5, with its weights, at a static (H, W) or at any size.

    Raises UserError when either file is missing, damaged or not of the other.
    """
    path = Path(path)
    config = read(path)
    weights = path if path.name.endswith(SUFFIX) else path.with_name(path.stem + SUFFIX)
    try:
        if file_sha256(weights) != config["weights_sha256"]:
            raise UserError(
                f"{weights} is not what {config_path(weights).name} was written for; convert it again."
            )
        # A model whose position embeddings have one size says which among its arguments.
        size = config["arguments"].get("image_size") if image_size is None else image_size
        h5.check(weights)
        model = zoo.build(config["model"], **{**config["arguments"], "image_size": size})
        with warnings.catch_warnings():  # what does not fit raises as well
            warnings.simplefilter("ignore")
            model.load_weights(weights)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{weights} cannot be loaded: {first_line(error)}.") from error
    return model


def tuples(value: Any) -> Any:
    """JSON has no tuples, and the zoo's arguments no lists."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def missing(weights: Path) -> str:
    """What to do about weights without a config, such as those that were saved by hand."""
    call = f"zoo.convert.write_config('{weights}', 'deeplabv3plus', classes=['road', 'car'], backbone='mobilenet_v2')"
    return (
        f"its config {config_path(weights).name}, which says what model and classes it is of, is not beside it; "
        f'python -c "import zoo.convert; {call}" writes one, with the model, classes and keywords of your zoo.build'
    )
