"""Readers that take something else than a path, as functions of a path: for tests/fuzz_readers.py."""

from pathlib import Path
from typing import Any


def legend(path: Path) -> Any:
    from app.painted import read_legend

    return read_legend(path.read_bytes(), ("road", "car"), str(path))


def history(path: Path) -> Any:
    from evaluation import report
    from evaluation.report import chart_images

    rows = report.read_history(path.absolute().parent)
    return chart_images.curves(rows) if rows else None


def copied(path: Path) -> Any:
    from training.data.files import stream_copy as module

    return module._index(path.absolute().parent)


def tracked(path: Path) -> Any:
    from training.tracking import mlflow_store

    return mlflow_store.kept(path.absolute().parent)


def cluster(path: Path) -> Any:
    from training.distributed import from_environment

    return from_environment(path.read_bytes().decode("latin-1"))
