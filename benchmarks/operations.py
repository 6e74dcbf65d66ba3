"""Where the time of a file goes: each operation beside the least that it could take.

The file is cut after each operation; the parts take turns, and an operation's time is the difference of the shortest
times of two of them. XNNPACK joins operations, so a small one may seem to take what belongs to the next. The bound of
an operation is the longer of its two: operations by the best rate, bytes by the best bandwidth (roofline.py).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.roofline import PRODUCTS, bandwidth, bytes_of, kind_of, macs_of, rate_of, roof, turns
from export import surgery


class Row(NamedTuple):
    """One operation: milliseconds measured and at least, what it gives, GMACs and MB."""

    taken: float
    bound: float
    name: str
    shape: str
    gmacs: float
    megabytes: float


class Roofs(NamedTuple):
    """What the machine can on so many threads: GOPS of each kind, GB/s."""

    gops: dict[str, float]
    bandwidth: float


def roofs(threads: int) -> Roofs:
    return Roofs({kind: rate_of(roof(kind), threads) for kind in ("int8", "float32")}, bandwidth(threads))


def operations(file: Path, threads: int, runs: int, most: Roofs) -> str:
    """A table of a file's operations, the longest first, down to a hundredth of the whole; then the whole."""
    data = file.read_bytes()
    names = surgery.op_names(surgery.read(data))
    times = np.min(turns([cut_after(data, place) for place in range(len(names))], threads, runs), axis=0)
    taken = np.diff(np.maximum.accumulate(1000 * times), prepend=0.0)
    return table(f"{file.name}, {threads} threads", rows(data, taken, most), most)


def rows(data: bytes, taken: np.ndarray, most: Roofs) -> list[Row]:
    """Each operation of a file, in order; `taken` are the milliseconds measured."""
    model = surgery.read(data)
    graph, kind = model.subgraphs[0], kind_of(model)
    found = []
    for name, operator, milliseconds in zip(surgery.op_names(model), graph.operators, taken, strict=True):
        gmacs = macs_of(name, operator, graph.tensors) / 1e9
        megabytes = bytes_of(operator, graph.tensors) / 1e6
        bound = max(2000 * gmacs / most.gops[kind], megabytes / most.bandwidth)
        result = graph.tensors[operator.outputs[0]].shape[1:]
        shape = "x".join(str(side) for side in result)
        if name in PRODUCTS:
            filters = graph.tensors[operator.inputs[1]].shape
            shape += f" by {filters[1]}x{filters[2]}" if len(filters) == 4 else ""
        found.append(Row(float(milliseconds), bound, name, shape, gmacs, megabytes))
    return found


def table(title: str, found: list[Row], most: Roofs) -> str:
    whole, bound = sum(row.taken for row in found), sum(row.bound for row in found)
    rates = ", ".join(f"{rate:.0f} GOPS in {kind}" for kind, rate in most.gops.items())
    text = [
        f"\n{title}: {whole:.2f} ms, at best {bound:.2f} ({bound / whole:.0%}); {rates}, {most.bandwidth:.0f} GB/s\n",
        "| ms | at best, ms | of the bound | operation | result | GMACs | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    shown = [row for row in sorted(found, reverse=True) if row.taken > whole / 100]
    for row in shown:
        text.append(
            f"| {row.taken:.2f} | {row.bound:.2f} | {row.bound / row.taken:.0%} | {row.name} | {row.shape} "
            f"| {row.gmacs:.3f} | {row.megabytes:.2f} |"
        )
    others = [row for row in found if row not in shown]
    rest = sum(row.taken for row in others)
    text.append(f"| {rest:.2f} | {sum(row.bound for row in others):.2f} | | {len(others)} others | | | |")
    return "\n".join(text)


def cut_after(data: bytes, place: int) -> bytes:
    """The file with no operation after number `place`, whose result it gives."""
    model = surgery.read(data)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[: place + 1]
    graph.outputs = [int(graph.operators[place].outputs[0])]
    model.signatureDefs = []
    return surgery.write(model)
