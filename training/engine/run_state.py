"""What a run has come to: its small numbers, and the way of all its variables to a checkpoint and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from runtime.errors import UserError
from training.distributed import Cluster
from training.engine.train_step import TrainState
from training.runs import best_weights, checkpoints, run_folders


@dataclass
class Progress:
    """The small numbers of a run. All of it is in each checkpoint, so a resume goes on bit for bit."""

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_miou: float = -1.0
    best_epoch: int = -1
    epochs_without_gain: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def averaged(train_state: TrainState) -> Iterator[None]:
    """The model with its averaged weights inside the block, with its own again after it."""
    if not train_state.ema:
        yield
        return
    own = [keras.ops.convert_to_numpy(weight) for weight in train_state.model.weights]
    for weight, shadow in zip(train_state.model.weights, train_state.ema, strict=True):
        weight.assign(shadow)
    try:
        yield
    finally:
        for weight, value in zip(train_state.model.weights, own, strict=True):
            weight.assign(value)


def save(run_folder: Path, train_state: TrainState, progress: Progress) -> None:
    checkpoints.save(
        run_folder / "checkpoints", progress.step, _arrays(train_state), {"progress": progress.__dict__}
    )


def begin(
    run_folder: Path, train_state: TrainState, cluster: Cluster, say: Callable[[str], None]
) -> Progress:
    """Where the run stands. The chief restores it; the others take every variable from the chief, so that they
    need neither the run folder nor the files of initial weights."""
    progress = restore(run_folder, train_state, say) if cluster.chief else Progress()
    if cluster.size == 1:
        return progress
    if cluster.chief:
        cluster.share(b"".join(checkpoints.encode(_arrays(train_state), {"progress": progress.__dict__})))
        return progress
    arrays, meta = checkpoints.decode(cluster.share())
    _assign(train_state, arrays)
    return Progress(**meta["progress"])


def restore(run_folder: Path, train_state: TrainState, say: Callable[[str], None]) -> Progress:
    found = checkpoints.latest(run_folder / "checkpoints", say)
    if found is None:
        return Progress()
    arrays, meta = found
    own = train_state.variables()
    fits = set(arrays) == set(own) and all(arrays[name].shape == tuple(own[name].shape) for name in own)
    progress = _progress(meta)
    if not fits or progress is None:
        raise UserError(
            f"the checkpoints in {run_folder} hold {len(arrays)} variables and are not of the {len(own)} that this "
            "version builds: go on with the version that wrote them, or start over with --fresh"
        )
    _assign(train_state, arrays)
    if progress.best_epoch >= 0:
        best_weights.check_present(run_folder)
    run_folders.write_history(run_folder / "history.csv", progress.history)
    say(f"going on from step {progress.step}.")
    return progress


def _progress(meta: dict[str, Any]) -> Progress | None:
    """None where another version has kept other numbers."""
    try:
        return Progress(**meta["progress"])
    except (KeyError, TypeError):
        return None


def _arrays(train_state: TrainState) -> dict[str, np.ndarray]:
    return {name: np.asarray(_value(variable)) for name, variable in train_state.variables().items()}


def _assign(train_state: TrainState, arrays: dict[str, np.ndarray]) -> None:
    for name, variable in train_state.variables().items():
        variable.assign(arrays[name])


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable.value if isinstance(variable, keras.Variable) else variable)
