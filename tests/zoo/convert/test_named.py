"""zoo.load(NAME) and --init NAME: what ships, what is fetched and converted once, and names that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from runtime.errors import UserError
from runtime.files import file_sha256
from runtime.model_names import ROWS, File, Row
from tests.tiny import REPOSITORY
from training.runs import initial_weights, trained_run
from zoo.convert import __main__ as command
from zoo.convert import model_config, named

NAME = "deeplabv3plus-edgetpu-camvid"
WEIGHTS = REPOSITORY / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5"


def test_a_shipped_name_is_its_weights():
    assert named.weights(NAME) == named.weights(WEIGHTS) == WEIGHTS
    assert initial_weights.find(Path(NAME)).path == WEIGHTS
    assert trained_run.load(NAME).weights_path == WEIGHTS
    assert initial_weights.architecture(Path(NAME), "deeplabv3plus")["backbone"] == "mobilenet_edgetpu"
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("float32")
    logits = zoo.load(NAME)(image, training=False)["logits"]
    np.testing.assert_array_equal(logits, model_config.rebuild(WEIGHTS)(image, training=False)["logits"])


def test_a_name_that_is_none_gets_the_nearest():
    for do in (zoo.load, trained_run.load, lambda name: initial_weights.find(Path(name))):
        with pytest.raises(
            UserError, match=f"deeplabv3plus-mobilenet-camvid is no file .*did you mean {NAME}"
        ):
            do("deeplabv3plus-mobilenet-camvid")
    with pytest.raises(AttributeError, match="no attribute 'loads'"):
        zoo.loads  # noqa: B018


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir()
    assert named.weights(NAME) == Path(NAME)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> dict[str, Any]:
    """A row whose checkpoint lies in the cache, and a conversion that counts how often it is asked."""
    monkeypatch.setenv("KERBSIDE_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "street.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"a checkpoint")
    row = Row(
        None, File("https://nowhere.invalid/street.pth", None, file_sha256(kept)[:8]), "MIT", "none", ""
    )
    monkeypatch.setitem(ROWS, "street-of-tests", row)
    calls: list[tuple[Path, Path, str]] = []

    def convert(path: Path, out: Path, name: str, say: Any, **more: Any) -> None:
        calls.append((path, out, name))
        out.write_bytes(b"weights")
        model_config.config_path(out).write_bytes(b"{}")

    monkeypatch.setattr(named, "convert", convert)
    monkeypatch.setattr(command, "convert", convert)
    return {"kept": kept, "calls": calls}


def test_a_checkpoint_is_converted_once_a_hash(checkpoint, tmp_path):
    first = named.weights("street-of-tests")
    assert named.weights("street-of-tests") == first and first.parent == tmp_path / "cache"
    assert checkpoint["calls"] == [(checkpoint["kept"], first, "street-of-tests")]
    assert command.main(["street-of-tests", "--out", str(tmp_path / "o.weights.h5")]) == 0
    assert checkpoint["calls"][1][::2] == (checkpoint["kept"], "street-of-tests")


def test_a_checkpoint_that_has_changed_is_not_converted(checkpoint):
    checkpoint["kept"].write_bytes(b"another")
    with pytest.raises(
        UserError, match="street-of-tests is not what it should be: the SHA-256 of street.pth"
    ):
        named.weights("street-of-tests")
    assert not checkpoint["calls"]
