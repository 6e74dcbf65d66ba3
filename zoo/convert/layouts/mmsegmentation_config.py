"""What a .pth of mmsegmentation says of itself beside its tensors: the config, the classes and their colours.

The config is Python source in the meta: assignments of literals and calls of `dict`. It is parsed, never run.
"""

import ast
from collections.abc import Mapping
from typing import Any

from zoo.convert.inputs import Inputs, normalised

Config = Mapping[str, Any]
KEYS = ("cfg", "config")  # since mmsegmentation 1.0, and before
# A real one has some 30 kB and 30 assignments; names may refer to names, and what is printed grows with that.
MOST_TEXT, MOST_STATEMENTS, MOST_VALUES = 1 << 20, 500, 10_000


def config(meta: Mapping[str, Any]) -> Config:
    """The config by name of assignment, such as "model"; {} where the meta has none or it is no Python.

    What is neither a literal nor a call of `dict` is left out.
    """
    text = next((meta[key] for key in KEYS if isinstance(meta.get(key), str)), "")
    names: dict[str, Any] = {}
    if len(text) > MOST_TEXT:
        return {}
    try:
        for statement in ast.parse(text).body[:MOST_STATEMENTS]:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                value = _value(statement.value, names)
                names[statement.targets[0].id] = value if _counted(value, MOST_VALUES) >= 0 else None
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return {}
    return names


def _counted(value: Any, left: int) -> int:
    """`left` less one for each value in a value, below 0 as soon as they are more."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    left -= 1
    for one in inner:
        if left < 0:
            break
        left = _counted(one, left)
    return left


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """A literal, dict(...), or what a name was given before; None for anything else."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names.get(node.id)
        case ast.Tuple() | ast.List():
            return tuple(_value(element, names) for element in node.elts)
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {_value(key, names): _value(value, names) for key, value in pairs if key is not None}
        case ast.Call(func=ast.Name(id="dict")):
            return {word.arg: _value(word.value, names) for word in node.keywords if word.arg is not None}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
    return None


def part(config: Config, *path: str) -> dict[str, Any]:
    """The dict that stands at a path of a config, such as ("model", "backbone"); {} where there is none."""
    here: Any = config
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    return dict(here) if isinstance(here, Mapping) else {}


def prepared(config: Config) -> Inputs | None:
    """How images are prepared; None where the config does not say. mmsegmentation reads them blue first, and turns them
    only where it is told to: by bgr_to_rgb since 1.0, which is off unless stated, and before by to_rgb, which is on.
    Without a mean they stay 0..255. Raises ValueError on a mean or std that is none."""
    new, old = part(config, "model", "data_preprocessor"), part(config, "img_norm_cfg")
    said = new or part(config, "data_preprocessor")
    if said:
        is_turned = bool(said.get("bgr_to_rgb") or said.get("rgb_to_bgr"))
    elif old:
        said, is_turned = old, bool(old.get("to_rgb", True))
    else:
        return None
    mean, std = said.get("mean"), said.get("std")
    if mean is None:
        return normalised(0.0, 1.0, 1.0, bgr=not is_turned)
    return normalised(mean, std, 1.0, bgr=not is_turned)


def described(
    meta: Mapping[str, Any],
) -> tuple[tuple[str, ...] | None, tuple[tuple[int, int, int], ...] | None]:
    """Classes and palette: in dataset_meta since mmsegmentation 1.0, in CLASSES and PALETTE before."""
    inner = meta.get("dataset_meta")
    said = {
        key.lower(): value for key, value in {**meta, **(inner if isinstance(inner, Mapping) else {})}.items()
    }
    classes, palette = said.get("classes"), said.get("palette")
    return (
        tuple(map(str, classes)) if classes else None,
        tuple((int(red), int(green), int(blue)) for red, green, blue in palette) if palette else None,
    )
