"""What watches a run: TensorBoard's files and an MLflow store, both read back by their own readers."""

import dataclasses
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation import report
from runtime.errors import UserError
from tests.tiny import TINY_MODEL, run, write_camvid
from training import tracking, train
from training.engine.loop import Stopped
from training.runs.recipe import Recipe
from training.tracking import mlflow_store

RECIPE = Recipe.of(
    model="deeplabv3plus", data="scenes", backbone="mobilenet_v2", batch=4, data_options={"size": (64, 96)}
)


def rows(epochs: int) -> list[dict]:
    return [
        {"epoch": epoch, "step": 10 * epoch, "learning_rate": 1e-3 / epoch, "loss": 2.0 / epoch,
         "val_loss": 3.0 / epoch, "val_miou": 1 - 0.5**epoch, "val_pixel_accuracy": 1 - 0.4**epoch, "skipped": 0}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip


def run_folder(root: Path, name: str = "first") -> Path:
    """A run folder as training leaves it: recipe, previews, curves."""
    folder = root / "runs" / name
    (folder / "previews").mkdir(parents=True)
    (folder / "recipe.json").write_text(RECIPE.to_json(), encoding="utf-8")
    for epoch in (1, 2, 3):
        cv2.imwrite(str(report.preview_path(folder, epoch)), np.full((8, 32, 3), 40 * epoch, np.uint8))
    return folder


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: making one is the slow part, so that it is made once and copied."""
    pytest.importorskip("mlflow", reason="needs pip install -r requirements-extras.txt")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store._client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder beside a store, on a machine that reaches nobody."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"the network is used: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    made = run_folder(tmp_path)
    shutil.copy(empty_store, made.parent)
    return made


def read_back(folder: Path):
    """MLflow's own client, and the run that it finds by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("kerbside")
    (found,) = client.search_runs([experiment.experiment_id], f"run_name = '{folder.name}'")
    return client, found


def files(client, run_id: str, under: str | None = None) -> list[str]:
    return sorted(file.path for file in client.list_artifacts(run_id, under))


def test_a_run_is_in_the_store_with_all_that_it_is(folder: Path, tmp_path: Path) -> None:
    tracking.begin(folder, RECIPE, "mlflow", None)
    client, found = read_back(folder)
    assert found.info.status == "SCHEDULED"
    assert found.data.params["model"] == "deeplabv3plus" and found.data.params["batch"] == "4"
    assert found.data.params["data_options.size"] == "[64, 96]" and found.data.params["augmentation.flip"]
    assert len(found.data.params) == len(mlflow_store.flat(RECIPE.as_dict()))
    assert found.data.tags["recipe_sha256"] == RECIPE.sha256()
    with tracking.opened(folder, RECIPE) as track:
        track(rows(1))
        assert client.get_run(found.info.run_id).info.status == "RUNNING"
        track(rows(2))
        report.draw_curves(folder / "curves.png", rows(2))
    history = client.get_metric_history(found.info.run_id, "val_miou")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.75)]
    assert client.get_metric_history(found.info.run_id, "step")[1].value == 20
    assert client.get_run(found.info.run_id).info.status == "FINISHED"
    assert files(client, found.info.run_id) == ["curves.png", "previews", "recipe.json"]
    assert files(client, found.info.run_id, "previews") == [
        "previews/epoch-0001.jpg",
        "previews/epoch-0002.jpg",
    ]
    # What evaluation and export add afterwards:
    (tmp_path / "a.tflite").write_bytes(b"a model")
    mlflow_store.add(
        folder, [tmp_path / "a.tflite"], "export", {"scenes-val/miou": 0.7, "nothing": float("nan")}
    )
    local = client.download_artifacts(found.info.run_id, "export/a.tflite", str(tmp_path / "runs"))
    assert Path(local).read_bytes() == b"a model"
    assert client.get_run(found.info.run_id).data.metrics["scenes-val/miou"] == 0.7
    assert (folder.parent / "mlartifacts").is_dir()


def test_a_resumed_run_goes_on_in_the_same_run_without_doubled_steps(folder: Path) -> None:
    tracking.begin(folder, RECIPE, "mlflow", None)
    first = read_back(folder)[1].info.run_id
    with pytest.raises(Stopped), tracking.opened(folder, RECIPE) as track:
        track(rows(2))
        raise Stopped("stopped after step 20")
    client, found = read_back(folder)
    assert found.info.status == "KILLED"
    relative = os.path.relpath(folder.parent / "mlflow.db")
    tracking.begin(folder, RECIPE, "mlflow", f"sqlite:///{relative}")  # the same store
    tracking.begin(folder, RECIPE, None, None)  # the folder knows that it is tracked
    with tracking.opened(folder, RECIPE) as track:
        track(rows(2))  # epoch 2 was taken again, since its checkpoint had not been written
        track(rows(3))
    client, found = read_back(folder)
    assert found.info.run_id == first and found.info.status == "FINISHED"
    for key in ("loss", "val_miou", "learning_rate"):
        assert [metric.step for metric in client.get_metric_history(first, key)] == [1, 2, 3]
    with pytest.raises(ValueError), tracking.opened(folder, RECIPE):
        raise ValueError("something else")
    assert read_back(folder)[1].info.status == "FAILED"


def test_a_store_that_fails_mid_run_is_said_once_and_gets_the_epochs_later(folder: Path) -> None:
    tracking.begin(folder, RECIPE, "mlflow", None)
    store, said = folder.parent / "mlflow.db", []
    with tracking.opened(folder, RECIPE, said.append) as track:
        whole = store.read_bytes()
        store.write_bytes(b"no database at all" * 1000)
        track(rows(1))
        track(rows(2))
        assert len(said) == 1 and "mlflow.db" in said[0] and "training goes on" in said[0]
        store.write_bytes(whole)
        track(rows(3))
    client, found = read_back(folder)
    assert [metric.step for metric in client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3]
    assert len(said) == 1


def test_a_store_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    made = run_folder(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "other.db").write_bytes(b"no database at all" * 1000)
    for uri in (
        f"sqlite:///{tmp_path}/file/mlflow.db",
        f"sqlite:///{tmp_path}/other.db",
        f"sqlite:///{tmp_path}",
    ):
        with pytest.raises(UserError, match="the MLflow store .* cannot be written .*--track-uri"):
            tracking.begin(made, RECIPE, "mlflow", uri)
    assert not (made / "tracking.json").exists()
    with pytest.raises(UserError, match="add --track mlflow"):
        tracking.begin(made, RECIPE, None, "sqlite:///x.db")


def test_a_run_that_the_store_has_lost_and_another_store_are_refused(folder: Path, empty_store: Path) -> None:
    tracking.begin(folder, RECIPE, "mlflow", None)
    with pytest.raises(UserError, match="is tracked in sqlite:.*name that one"):
        tracking.begin(folder, RECIPE, "mlflow", f"sqlite:///{empty_store}")
    shutil.copy(empty_store, folder.parent)
    with pytest.raises(UserError, match="does not have the run .* remove .*tracking.json"):
        tracking.begin(folder, RECIPE, None, None)
    tracking.begin(folder, RECIPE, "tensorboard", None)
    assert not (folder / "tracking.json").exists()


def test_without_mlflow_the_sentence_names_the_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="pip install -r requirements-extras.txt"):
        tracking.begin(run_folder(tmp_path), RECIPE, "mlflow", None)


def test_where_a_run_is_shown_is_no_part_of_its_recipe() -> None:
    bare = train.assemble(train.parser().parse_args(["deeplabv3plus"]))
    tracked = train.assemble(
        train.parser().parse_args(["deeplabv3plus", "--track", "mlflow", "--track-uri", "http://somewhere"])
    )
    assert bare.sha256() == tracked.sha256()
    assert not any("track" in field.name for field in dataclasses.fields(Recipe))


def test_tensorboard_has_the_recipe_numbers_and_previews_each_epoch_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    made = run_folder(tmp_path)
    with tracking.opened(made, RECIPE) as track:
        track(rows(1))
        track(rows(2))
    with open(next((made / "tensorboard").glob("events*")), "ab") as file:
        file.write(b"cut off in the middle of a record")
    with tracking.opened(made, RECIPE) as track:
        track(rows(2))
        track(rows(3))
    events = EventAccumulator(str(made / "tensorboard"), size_guidance={"tensors": 0, "images": 0}).Reload()
    for name, key in (("val_miou", "val_miou"), ("loss", "loss"), ("learning_rate", "learning_rate")):
        # Files of one second and process are read in the order of their names, in which ".10." comes before ".9.".
        seen = sorted((event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(name))
        assert [step for step, _ in seen] == [1, 2, 3]
        assert np.allclose([value for _, value in seen], [row[key] for row in rows(3)])
    (recipe,) = events.Tensors("recipe")
    assert b'| backbone | `"mobilenet_v2"` |' in recipe.tensor_proto.string_val[0]
    previews = sorted(events.Tensors("previews"), key=lambda event: event.step)
    assert [event.step for event in previews] == [1, 2, 3]
    width, height, data = previews[2].tensor_proto.string_val
    assert (width, height) == (b"32", b"8") and data == report.preview_path(made, 3).read_bytes()


@pytest.mark.slow
def test_the_commands_track_training_evaluation_and_export(tmp_path: Path, empty_store: Path) -> None:
    data = write_camvid(tmp_path / "camvid")
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs")
    flags = ["deeplabv3plus", "--data", "camvid", "--data-dir", str(data), *TINY_MODEL, "--name", "a", "--epochs", "2",
             "--crop", "48x64", "--batch", "3", "--track", "mlflow"]  # fmt: skip
    for module, arguments in (
        ("training.train", flags),
        ("training.train", flags),  # finished: nothing is doubled
        ("training.evaluate", ["runs/a"]),
        ("export", ["runs/a", "--precision", "fp32"]),
    ):
        done = run(tmp_path, module, *arguments)
        assert done.returncode == 0, done.stderr
    client, found = read_back(tmp_path / "runs" / "a")
    run_id = found.info.run_id
    assert json.loads((tmp_path / "runs/a/tracking.json").read_text(encoding="utf-8"))["run_id"] == run_id
    assert [metric.step for metric in client.get_metric_history(run_id, "val_miou")] == [1, 2]
    assert "export/a-fp32-mask-48x64.tflite" in files(client, run_id, "export")
    kept = files(client, run_id, "evaluation/camvid-val")
    assert "evaluation/camvid-val/confusion.png" in kept and "evaluation/camvid-val/worst.png" in kept
    assert found.data.metrics["camvid-val/miou"] >= 0
