"""docs/models.md from what benchmarks/zoo_table.py measured."""

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.zoo_rows import ROWS
from export.audit import listed

Measured = dict[str, dict[str, Any]]  # a row's name -> its facts


def page(measured: Measured, parity: dict[str, Any]) -> str:
    """The whole page."""
    parts = (table(measured), audit_table(measured), parity_table(parity))
    return "\n".join([HEAD, *(line for part in parts for line in (*part, ""))])


# From that day on files go through export/rewrite.py.
REWRITTEN = "2026-11-29"
HEAD = """\
# Models

Made by `python -m benchmarks.zoo_table`. Parameters are without the auxiliary head, which serves training; GMACs are
multiply-accumulates of convolutions and matrix products at 512x1024; files are `mask` files at 256x512, 19 classes;
latency is the median of the whole path (uint8 image in, class ids out) at 256x512 on two threads, the precisions in
turn. "Default" is what the model is exported in unless another precision is asked for, where that is not int8 (`mixed`:
int8 convolutions, float attention). SAM is two files, encoder and decoder; its latency is that of an image and one box.
The weights are random: none of these columns depends on them. Scores are in [Results](results.md), and what each model
has otherwise than its paper
[in the Python reference](reference/python.md#the-models-and-where-each-differs-from-its-paper).
"""
COLUMNS = [
    "model", "backbone", "parameters", "GMACs", "fp32 file", "int8 file", "default file", "fp32", "int8", "default",
    "measured", "checkpoints",
]  # fmt: skip


def machine() -> str:
    """In words, without naming the machine."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        processor = names[0] if names else processor
    return f"{os.cpu_count()} cores ({processor})"


def table(measured: Measured) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, row in ROWS.items():
        found = measured.get(name, {})
        variant = name.partition(" ")[2] or "none"
        if not found:
            lines.append(f"| {row.model} | {variant} | " + "not measured |" + " - |" * 8 + f" {row.loads} |")
            continue
        columns = [
            "fp32",
            "int8",
            next((name for name in found["files"] if name not in ("fp32", "int8")), ""),
        ]
        sizes = [_size(column, found["files"].get(column)) for column in columns]
        times = [
            _time(found.get("latency", {}).get(column), found["files"].get(column)) for column in columns
        ]
        numbers = [f"{found['parameters'] / 1e6:.2f}M", f"{found['macs'] / 1e9:.1f}", *sizes, *times]
        cells = " | ".join([*numbers, found["date"], row.loads])
        lines.append(f"| {row.model} | {variant} | {cells} |")
    return [*lines, "", *machines(measured)]


def machines(measured: Measured) -> list[str]:
    """Where each day's rows were measured, and which rows are of older files."""
    days = sorted({(found["date"], found["machine"]) for found in measured.values()})
    lines = ["Machines: " + "; ".join(f"{day}, {machine}" for day, machine in days) + "."]
    if days[0][0] < REWRITTEN:
        lines.append(
            f"Rows before {REWRITTEN} are of files that had not gone through `export/rewrite.py`, and DeepLab's had\n"
            "taps that meet only padding: such a file made today is smaller or faster, by how much is not measured."
        )
    return lines


def _size(precision: str, file: dict[str, Any] | None) -> str:
    if file is None:
        return "-"
    if "bytes" not in file:
        return "does not convert"
    return f"{file['bytes'] / 1e6:.2f} MB" + (f" ({precision})" if precision not in ("fp32", "int8") else "")


def _time(found: dict[str, float] | None, file: dict[str, Any] | None) -> str:
    if file is None or "bytes" not in file:
        return "-"
    return f"{found['median']:.1f} ms" if found else "not measured"


def audit_table(measured: Measured) -> list[str]:
    """One row a file: what it uses, what XNNPACK leaves, and tensors above rank 4."""
    lines = [
        "## Operators",
        "",
        "Of the default file of each row, as `python -m export.audit FILE.tflite` tells them of any, with what is",
        "used. XNNPACK is what makes LiteRT fast on a CPU; what it leaves runs in LiteRT's own kernels, and between",
        "two partitions data are handed over.",
        "Most accelerators refuse tensors above rank 4.",
        "",
        "| model | backbone | operations | partitions | left by XNNPACK | above rank 4 |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        for part, found in measured.get(name, {}).get("audit", {}).items():
            variant = " ".join((name.partition(" ")[2] or "none", part.strip("-"))).strip()
            left = listed(found["left"]) or "nothing"
            numbers = f"{found['operations']} | {found['partitions']} | {left} | {found['deep'] or 'none'}"
            lines.append(f"| {row.model} | {variant} | {numbers} |")
    return lines


def parity_table(parity: dict[str, Any]) -> list[str]:
    """One row a test: the largest difference over its images and sizes."""
    if not parity:
        return ["## Parity", "", "not measured"]
    worst: dict[str, list[float]] = {}
    for row in parity["rows"]:
        found = worst.setdefault(row["test"].removeprefix("tests/"), [0.0, 1.0])
        found[0], found[1] = max(found[0], row["difference"]), min(found[1], row["equal"])
    lines = [
        "## Parity with the references",
        "",
        "Random weights and norm statistics, random images, two sizes each, float32; the bound is 1e-4 of the",
        f"logits' range and 99.99% of equal pixels. {parity['date']}.",
        "Mask2Former's pixels are counted where the reference's best class leads by twice the bound.",
        "",
        "| test | largest difference, of the range | equal pixels |",
        "|---|---|---|",
    ]
    return lines + [f"| {test} | {low:.1e} | {100 * equal:.3f}% |" for test, (low, equal) in worst.items()]
