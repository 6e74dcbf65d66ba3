"""A config for weights that were saved by hand: what `save_weights` leaves out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

import zoo
from runtime.class_names import check_names
from runtime.errors import UserError
from runtime.files import file_sha256, write_json
from zoo.convert import model_config, ours

Colour = tuple[int, int, int]


def write_config(
    weights: str | os.PathLike[str],
    model: str,
    *,
    classes: Sequence[str] | int | None = None,
    palette: Sequence[Colour] | None = None,
    **arguments: Any,
) -> Path:
    """Write FILE.json beside FILE.weights.h5, which `save_weights` of a model of the zoo wrote, and return its path.

        model = zoo.build("deeplabv3plus", classes=2, backbone="mobilenet_v2")
        model.save_weights("mine.weights.h5")
        zoo.convert.write_config("mine.weights.h5", "deeplabv3plus", classes=["road", "car"], backbone="mobilenet_v2")

    From then on export, evaluation, --init and --teacher take the weights. `model` and `arguments` are those of
    zoo.build, without `image_size` where it may be free. `classes` are the names in the order of the ids, or their
    number alone (None for a model without classes); `palette` is a colour (r, g, b), 0..255, for each.

    UserError when the weights are not of this model, naming the layer, or when the arguments make no sense.
    """
    path = Path(weights)
    if not path.name.endswith(model_config.SUFFIX) or not path.is_file():
        raise UserError(f"{path} is no file that ends in {model_config.SUFFIX}: name what save_weights wrote")
    if isinstance(classes, str):
        raise UserError(f"classes is {classes!r}: a list of names is needed, such as ['road', 'car']")
    names = [str(name) for name in classes] if isinstance(classes, Sequence) else None
    try:
        check_names(names or [])
    except ValueError as error:
        raise UserError(f"classes cannot be used: {error}") from error
    count = len(names) if names is not None else classes
    built = {**({} if count is None else {"classes": count}), **arguments}
    colours = [[int(value) for value in colour] for colour in palette] if palette else None
    if colours and len(colours) != count:
        raise UserError(f"palette has {len(colours)} colours for {count} classes: one each is needed")
    _check(path, model, built)
    sha256 = file_sha256(path)
    facts = {
        "format": model_config.FORMAT,
        "model": model,
        "arguments": built,
        "classes": names,
        "palette": colours,
        "source": {
            "kind": "saved by hand",
            "name": path.name.removesuffix(model_config.SUFFIX),
            "sha256": sha256,
        },
        "weights_sha256": sha256,
    }
    write_json(model_config.config_path(path), facts)
    return model_config.config_path(path)


def _check(path: Path, model: str, arguments: dict[str, Any]) -> None:
    """UserError when the model cannot be built or is not that of the weights."""
    try:
        built: keras.Model = zoo.build(model, **arguments)
    except (ValueError, TypeError) as error:
        raise UserError(f"{model} cannot be built for {path}: {error}") from error
    with ours.opened(path) as stored:
        try:
            taken = ours.take(built, stored)
        except ValueError as error:
            raise UserError(f"{path} {error}: give write_config what zoo.build was given") from error
    if taken.left or taken.new:
        raise UserError(
            f"{path} and this {model} differ in the layer {(*taken.left, *taken.new)[0]}: give write_config what "
            "zoo.build was given"
        )
