"""What a `.tflite` is made of: python -m export.audit FILE.tflite ...

Its operations, which of them XNNPACK takes (the fast kernels of LiteRT's CPU) and which it leaves to LiteRT's own, and
tensors of more than four axes, which most accelerators refuse.
"""

import argparse
import collections
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from export import run_tflite, surgery, tensorflow_private
from runtime.bundle import read_model
from runtime.errors import UserError, exit_on_user_error

MOST_AXES = 4


class Audit(NamedTuple):
    """Operations by name with how often each occurs, in all and of those that XNNPACK leaves; the number of its
    partitions (1 is best: between two, data are handed over); and the names of tensors of more than four axes."""

    operations: dict[str, int]
    left: dict[str, int]
    partitions: int
    deep: list[str]

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


def audit(flatbuffer: bytes) -> Audit:
    """Load the file as the runtime does and look at what became of it. One graph; ValueError otherwise."""
    model = surgery.read(flatbuffer)
    if len(model.subgraphs) != 1:
        raise ValueError(f"the model has {len(model.subgraphs)} graphs; one is audited")
    graph, names = model.subgraphs[0], surgery.op_names(model)
    litert = run_tflite.interpreter(flatbuffer)
    partitions = tensorflow_private.partitions(litert)
    taken = within(graph, partitions)
    left = [name for place, name in enumerate(names) if place not in taken]
    return Audit(
        dict(sorted(collections.Counter(names).items())),
        dict(sorted(collections.Counter(left).items())),
        len(partitions),
        [_text(tensor.name) for tensor in graph.tensors if len(_shape(tensor)) > MOST_AXES],
    )


def within(graph: Any, partitions: Sequence[dict[str, Any]]) -> set[int]:
    """The places of the operations that lie between the inputs and the outputs of a partition."""
    maker = {int(output): place for place, op in enumerate(graph.operators) for output in op.outputs}
    taken: set[int] = set()
    for partition in partitions:
        given = {int(index) for index in partition["inputs"]}
        wanted = [int(index) for index in partition["outputs"]]
        while wanted:
            place = maker.get(wanted.pop())
            if place is None or place in taken:
                continue
            taken.add(place)
            wanted += [int(index) for index in graph.operators[place].inputs if int(index) not in given]
    return taken


def text(name: str, found: Audit) -> str:
    """A few lines for people."""
    total, outside = sum(found.operations.values()), sum(found.left.values())
    lines = [
        f"{name}: {total} operations, {total - outside} of them in {found.partitions} "
        f"XNNPACK partition{'s' * (found.partitions != 1)}",
        "  used:  " + listed(found.operations),
        "  left to LiteRT's own kernels:  " + (listed(found.left) or "none"),
        f"  tensors above rank {MOST_AXES}:  " + (", ".join(found.deep) or "none"),
    ]
    return "\n".join(lines)


def listed(counts: dict[str, int]) -> str:
    """CONV_2D 36, ADD 10, ...: the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _shape(tensor: Any) -> list[int]:
    return [] if tensor.shape is None else list(tensor.shape)


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m export.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE.tflite")
    command.add_argument("--json", action="store_true", help="one JSON object, by file")
    options = command.parse_args(argv)
    found = {}
    for path in options.files:
        try:
            found[str(path)] = audit(read_model(path))
        except ValueError as error:
            raise UserError(f"{path} cannot be audited: {error}.") from error
    if options.json:
        print(json.dumps({name: one.to_json() for name, one in found.items()}, indent=1))
    else:
        print("\n\n".join(text(name, one) for name, one in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
