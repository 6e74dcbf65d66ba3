"""What a .pth of mmsegmentation says of itself beside its tensors: the config, the classes and their colours.

The config is Python source in the meta: assignments of literals and calls of `dict`. It is parsed, never run.
"""

import ast
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
KEYS = ("cfg", "config")  # since mmsegmentation 1.0, and before


def config(meta: Mapping[str, Any]) -> Config:
    """The config by name of assignment, such as "model"; {} where the meta has none or it is no Python.

    What is neither a literal nor a call of `dict` is left out.
    """
    text = next((meta[key] for key in KEYS if isinstance(meta.get(key), str)), "")
    names: dict[str, Any] = {}
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            names[statement.targets[0].id] = _value(statement.value, names)
    return names


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
