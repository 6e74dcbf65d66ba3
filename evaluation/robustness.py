"""mIoU where images are corrupted, beside that of the clean ones (evaluation/corruptions.py)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation import corruptions, measurement, metrics
from evaluation.measurement import Predict
from training.data.spec import DatasetSpec, Example

# Corruption -> severity -> mIoU, a fraction.
Table = dict[str, dict[int, float]]


def measure(
    names: Sequence[str],
    severities: Sequence[int],
    examples: Sequence[Example],
    spec: DatasetSpec,
    predict: Predict,
) -> Table:
    """One pass over the examples for each corruption and severity; a line is printed a corruption."""
    table: Table = {}
    for name in names:
        table[name] = {}
        for severity in severities:
            seen = [corrupted(example, name, severity) for example in examples]
            found = measurement.measure(seen, spec, predict)
            table[name][severity] = float(metrics.mean_iou(metrics.counts(found.matrix)))
        print(f"{name:<18}{_row(table[name])}", flush=True)
    return table


def corrupted(example: Example, name: str, severity: int) -> Example:
    """The same example, whose image is corrupted when it is read; its label map is the same."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        rgb, truth = example.read()
        return corruptions.corrupted(rgb, name, severity, example.name), truth

    return dataclasses.replace(example, read=read)


def result(clean: float, table: Table) -> dict[str, Any]:
    """What scores.json has, fractions: `miou` of each corruption and severity, each corruption's mean, the mean of
    all, and what is left of the clean images' (`relative`, None where that is 0)."""
    means = {name: float(np.mean(list(row.values()))) for name, row in table.items()}
    mean = float(np.mean(list(means.values())))
    return {
        "miou": {
            name: {str(severity): value for severity, value in row.items()} for name, row in table.items()
        },
        "means": means,
        "mean": mean,
        "relative": mean / clean if clean else None,
    }


def rows(found: dict[str, Any]) -> list[list[Any]]:
    """corruptions.csv: one corruption a line, its severities and their mean."""
    severities = list(next(iter(found["miou"].values())))
    head = ["corruption", *(f"severity_{severity}" for severity in severities), "mean"]
    return [head, *([name, *row.values(), found["means"][name]] for name, row in found["miou"].items())]


def _row(values: dict[int, float]) -> str:
    return "  ".join(f"{severity}: {metrics.percent(value, 1)}" for severity, value in values.items())
