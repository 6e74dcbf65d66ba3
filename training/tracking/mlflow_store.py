"""A run in an MLflow store: its recipe as parameters, an epoch's numbers as metrics, images and files as artifacts.

runs/NAME/tracking.json says which run of which store it is, so that a resumed run goes on in it, and evaluation and
export add to it. Only `begin`, before training, may refuse; a store that fails later is complained of once and never
stops anything. MLflow is imported where it is used: it is an extra, and takes seconds.
"""

import json
import logging
import math
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.report import preview_path
from runtime import strict_json
from runtime.errors import UserError
from runtime.files import write_json
from training.engine.loop import Stopped, Track
from training.runs.recipe import Recipe

EXPERIMENT = "kerbside"
KEPT = "tracking.json"
SQLITE = "sqlite:///"
AT_ONCE = 100  # parameters of one request; MLflow refuses more
# No telemetry; a server that does not answer may cost an epoch seconds, not the minutes of MLflow's defaults.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracked(NamedTuple):
    """The run of a store that belongs to a run folder."""

    uri: str
    run_id: str


def default_uri(runs: Path) -> str:
    """RUNS/mlflow.db, a SQLite file."""
    return f"{SQLITE}{(runs / 'mlflow.db').resolve()}"


def kept(run_folder: Path) -> Tracked | None:
    """What tracking.json says; None where the run is not tracked."""
    path = run_folder / KEPT
    if not path.is_file():
        return None
    try:
        content = strict_json.checked(strict_json.read(path), {"uri": str, "run_id": str})
        return Tracked(content["uri"], content["run_id"])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} does not name a run of an MLflow store: remove it, or restore it") from error


def begin(run_folder: Path, recipe: Recipe, uri: str) -> None:
    """See that the store can be written and that the folder's run is in it; make that run if it is a new one.

    Until `opened`, a new run is SCHEDULED: what is wrong with the data, say, is found before training starts.

    `uri` is of SQLAlchemy's form for a SQLite file (sqlite:///PATH), or what else MLflow takes, such as a server's
    http address. UserError, in one sentence, when MLflow is not installed, the store cannot be written, or it does
    not have the run any more.
    """
    known, uri = kept(run_folder), _absolute(uri)
    if known and known.uri != uri:
        raise UserError(
            f"{run_folder} is tracked in {known.uri}, not in {uri}: name that one with --track-uri"
        )
    _check_sqlite(uri)
    try:
        client = _client(uri)
        if known:
            _see(client, known, run_folder)
        else:
            run_id = _new_run(client, uri, run_folder, recipe)
            write_json(run_folder / KEPT, {"uri": uri, "run_id": run_id})
    except UserError:
        raise
    except Exception as error:  # whatever a database driver or a server raises
        raise UserError(
            f"the MLflow store {uri} cannot be written ({_short(error)}): name another one with --track-uri, or "
            "go without: --track tensorboard"
        ) from error


def forget(run_folder: Path) -> None:
    """Track this run no longer; what the store has stays there."""
    (run_folder / KEPT).unlink(missing_ok=True)


@contextmanager
def opened(run_folder: Path, say: Callable[[str], None]) -> Iterator[Track]:
    """Give a function that takes the history so far; it does nothing for a run that is not tracked."""
    tracked = kept(run_folder)
    if tracked is None:
        yield lambda history: None
        return
    guard = _Guard(tracked, say)
    guard(lambda client: client.update_run(tracked.run_id, status="RUNNING"))
    status = "FAILED"
    try:
        yield lambda history: guard(lambda client: _add_epochs(client, tracked, history, run_folder))
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        guard(lambda client: _end(client, tracked, run_folder, status))


def add(
    run_folder: Path,
    paths: Sequence[Path],
    under: str,
    numbers: dict[str, float] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Put files and folders below the artifacts' `under`, and numbers among the metrics, if the run is tracked."""
    tracked = kept(run_folder)
    if tracked is None:
        return

    def send(client: Any) -> None:
        for path in paths:
            if path.is_dir():
                client.log_artifacts(tracked.run_id, str(path), f"{under}/{path.name}")
            else:
                client.log_artifact(tracked.run_id, str(path), under)
        for name, value in (numbers or {}).items():
            if math.isfinite(value):
                client.log_metric(tracked.run_id, _key(name), value)

    _Guard(tracked, say)(send)


class _Guard:
    """Calls the store, and turns whatever it raises into one warning."""

    def __init__(self, tracked: Tracked, say: Callable[[str], None]) -> None:
        self.tracked, self.say, self.client, self.warned = tracked, say, None, False

    def __call__(self, send: Callable[[Any], None]) -> None:
        try:
            _check_sqlite(self.tracked.uri)
            self.client = self.client or _client(self.tracked.uri)
            send(self.client)
        except Exception as error:
            if not self.warned:
                self.say(
                    f"warning: the MLflow store {self.tracked.uri} does not take this run's figures "
                    f"({_short(error)}); training goes on, and they are sent after the next epoch."
                )
            self.warned = True


def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError(
            f"--track mlflow needs MLflow ({error}): pip install -r requirements-extras.txt"
        ) from error
    for name in ("mlflow", "alembic"):  # they tell of each table that they make
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _absolute(uri: str) -> str:
    """A SQLite file by its whole path: evaluation and export may be started elsewhere."""
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri


def _check_sqlite(uri: str) -> None:
    """UserError unless the file can be written. MLflow itself would try for two minutes."""
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the MLflow store {path} cannot be written ({_short(error)}): name another one with --track-uri, or "
            "go without: --track tensorboard"
        ) from error


def _new_run(client: Any, uri: str, run_folder: Path, recipe: Recipe) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        # A server knows where it keeps artifacts; beside a SQLite file is our choice.
        place = None
        if uri.startswith(SQLITE):
            place = (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=place)
    else:
        experiment_id = experiment.experiment_id
    tags = {
        "mlflow.source.name": "python -m training.train",
        "run_folder": str(run_folder.resolve()),
        "recipe_sha256": recipe.sha256(),
    }
    run_id: str = client.create_run(experiment_id, run_name=run_folder.name, tags=tags).info.run_id
    _add_parameters(client, run_id, flat(recipe.as_dict()))
    client.log_artifact(run_id, str(run_folder / "recipe.json"))
    client.update_run(run_id, status="SCHEDULED")
    return run_id


def _see(client: Any, known: Tracked, run_folder: Path) -> None:
    try:
        client.get_run(known.run_id)
    except Exception as error:
        raise UserError(
            f"the MLflow store {known.uri} does not have the run {known.run_id} of {run_folder}: remove "
            f"{run_folder / KEPT} to begin another one there"
        ) from error


def _add_parameters(client: Any, run_id: str, parameters: dict[str, str]) -> None:
    from mlflow.entities import Param

    rows = [Param(_key(name), value) for name, value in parameters.items()]
    for start in range(0, len(rows), AT_ONCE):
        client.log_batch(run_id, params=rows[start : start + AT_ONCE])


def _add_epochs(client: Any, tracked: Tracked, history: Sequence[dict[str, Any]], run_folder: Path) -> None:
    """The epochs that the store does not have yet: every number of the row, and the preview."""
    from mlflow.entities import Metric

    there = {metric.step for metric in client.get_metric_history(tracked.run_id, "val_miou")}
    for row in history:
        epoch = row["epoch"]
        if epoch in there:
            continue
        preview = preview_path(run_folder, epoch)
        if preview.is_file():
            client.log_artifact(tracked.run_id, str(preview), "previews")
        now = int(1000 * time.time())
        # In one transaction, so that an epoch is there in whole or not at all.
        finite = {name: float(value) for name, value in row.items() if math.isfinite(value)}
        numbers = [Metric(name, value, now, epoch) for name, value in finite.items() if name != "epoch"]
        client.log_batch(tracked.run_id, metrics=numbers)


def _end(client: Any, tracked: Tracked, run_folder: Path, status: str) -> None:
    curves = run_folder / "curves.png"
    if curves.is_file():
        client.log_artifact(tracked.run_id, str(curves))
    client.set_terminated(tracked.run_id, status)


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": [1, 2]}} -> {"a.b": "[1, 2]"}: texts as they are, all else as JSON."""
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, dict) and value:
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def _key(name: str) -> str:
    """MLflow takes letters, digits and these signs."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _short(error: BaseException) -> str:
    """The first line of an error, without the SQL and the links that follow it."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    with suppress(IndexError):
        text = text.strip().splitlines()[0]
    return text[:200].rstrip(".")
