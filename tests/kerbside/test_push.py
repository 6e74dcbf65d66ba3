"""kerbside push: a model repository made of weights, sent to a stand-in of the Hub, and used by its name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
import zoo.convert
from kerbside import push
from runtime import fetch
from runtime.errors import UserError
from tests.hub_stand_in import Hub, serving
from tests.tiny import environment

NAME = "me/street-model"
TINY: dict[str, Any] = {
    "backbone": "resnet18_v1b", "backbone_sizes": {"blocks": (1, 1, 1, 1)}, "head_filters": 4, "output_stride": 16,
}  # fmt: skip
CLASSES = ["road", "car", "sky"]
# What the other process does with a repository; it says the name of each file, or the sentence.
ALL = """
import hashlib, json, os, sys
from pathlib import Path
from kerbside import push
from runtime import fetch
from runtime.errors import UserError

def told(what):
    import urllib.request
    return json.load(urllib.request.urlopen(sys.argv[1] + "/" + what))
def sentence(do, *given):
    try:
        return Path(do(*given)).name
    except UserError as error:
        return str(error)
folder, name = Path("staged"), "hf://me/street-model"
said = {"sent": push.send(folder, "me/street-model", False)}
said["tflite"] = sentence(fetch.from_hub, name, ".tflite")
said["weights"] = sentence(fetch.from_hub, name, ".weights.h5")
said["named"] = sentence(fetch.from_hub, name + "/a.tflite", ".tflite")
said["nothing"] = sentence(fetch.from_hub, "hf://me/nothing", ".tflite")
said["ours"], said["others"] = fetch.has_sums(name), fetch.has_sums("hf://me/plain")
told("gone")
said["offline"] = sentence(fetch.from_hub, name, ".weights.h5")
said["away"] = sentence(push.send, folder, "me/street-model", False)
told("spoilt")
said["spoilt"] = sentence(fetch.from_hub, name, ".weights.h5")
os.environ["HF_TOKEN"] = "wrong"
said["wrong"] = sentence(push.send, folder, "me/street-model", False)
print("SAID", json.dumps(said))
"""


class Told(Hub):
    """The stand-in, with two addresses by which the other process tells it what to do."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.server.gone = True
            return self.answer(200, {})
        if self.path == "/spoilt":
            self.server.gone = False
            self.server.repositories[NAME]["a.weights.h5"] += b"x"
            return self.answer(200, {})
        return super().do_GET()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, mask_bytes: bytes) -> Path:
    """FILE.weights.h5 of a tiny network, with an exported file beside it."""
    folder = tmp_path_factory.mktemp("push")
    path = folder / "street.weights.h5"
    zoo.build("fcn", classes=len(CLASSES), **TINY).save_weights(path)
    zoo.convert.write_config(str(path), "fcn", classes=CLASSES, **TINY)
    card = path.with_name("street.json")
    source = {"what": "CamVid", "how": "data", "terms": "theirs", "read": "there"}
    card.write_text(json.dumps({**json.loads(card.read_text()), "learnt_from": [source]}))
    (folder / "export").mkdir()
    (folder / "export" / "street-int8-mask-8x12.tflite").write_bytes(mask_bytes)
    return path


def test_nothing_is_sent_until_it_is_asked_for(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(push, "send", lambda *given: pytest.fail("something was sent"))
    assert push.main([str(weights), NAME]) == 0
    said = capsys.readouterr().out
    assert f"nothing was sent: with --yes these 5 files go to {NAME}." in said
    assert "library_name: keras" in said and "street-model.weights.h5" in said


def test_what_is_staged_is_the_model_its_files_and_a_card(weights: Path, tmp_path: Path) -> None:
    staged = push.stage(str(weights), NAME, "mit", tmp_path)
    assert {path.name for path in staged} == {
        "README.md", "SHA256SUMS", "street-model.json", "street-model.weights.h5", "street-int8-mask-8x12.tflite",
    }  # fmt: skip
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\nlibrary_name: keras\n")
    assert "- semantic-segmentation" in card and "3 classes: road, car, sky" in card
    assert f"kerbside run hf://{NAME} IMAGE" in card and "not measured" in card
    assert "## What it has learnt from" in card and "- CamVid (data): theirs. there" in card
    sums = fetch.sums_of(tmp_path / "SHA256SUMS", NAME)
    assert set(sums) == {path.name for path in staged} - {"README.md", "SHA256SUMS"}
    image = np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3)).astype("float32")
    first, second = (
        zoo.load(path)(image, training=False)["logits"]
        for path in (weights, tmp_path / "street-model.weights.h5")
    )
    np.testing.assert_array_equal(first, second)


def test_what_was_measured_is_on_the_card(weights: Path, tmp_path: Path) -> None:
    scores = tmp_path / "evaluation" / "camvid-val"
    scores.mkdir(parents=True)
    (scores / "scores.json").write_text('{"miou": 0.6543}', encoding="utf-8")
    (tmp_path / "evaluation" / "half").mkdir()
    (tmp_path / "evaluation" / "half" / "scores.json").write_text('{"miou":', encoding="utf-8")
    rows = push.measured(tmp_path, [])
    assert rows == [("float32", "camvid-val", "mIoU", 0.6543)]
    from training.runs.trained_run import load

    card = push.card_text(NAME, "mit", load(weights), [], rows)
    assert "| float32 | camvid-val | mIoU | 65.43 |" in card and "value: 65.43}" in card
    assert "not measured" not in card


def test_a_repository_is_made_filled_and_read_again(tmp_path: Path) -> None:
    """In a process of its own: the client takes its endpoint and its cache from the environment when it is imported."""
    staged = tmp_path / "staged"
    staged.mkdir()
    files = {
        "a.tflite": b"tflite",
        "a.weights.h5": b"weights",
        "a.json": b"{}",
        "README.md": b"---\nlicense: mit\n---\n",
    }
    for name, content in files.items():
        (staged / name).write_bytes(content)
    sums = [f"{push.file_sha256(staged / name)}  {name}\n" for name in files if name != "README.md"]
    (staged / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    with serving(Told) as server:
        server.repositories["me/plain"] = {"model.safetensors": b"x"}
        inherited = {name: value for name, value in environment().items() if not name.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", ALL, server.address],
            cwd=tmp_path,
            env={
                **inherited,
                "HF_ENDPOINT": server.address,
                "HF_HOME": str(tmp_path / "c"),
                "HF_TOKEN": "secret",
            },
            capture_output=True,
            text=True,
        )
        made = {name: server.repositories[NAME][name] for name in files}
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.rpartition("SAID ")[2])
    assert made["a.tflite"] == b"tflite" and said["sent"].endswith(NAME)
    assert said["tflite"] == said["named"] == "a.tflite"
    assert said["weights"] == said["offline"] == "a.weights.h5"
    assert said["ours"] and not said["others"]
    assert "hf://me/nothing is no model on the Hub" in said["nothing"]
    assert "me/street-model was not taken by the Hub (503)" in said["away"]
    assert "is not what it should be: the SHA-256 of a.weights.h5" in said["spoilt"]
    assert "me/street-model was not taken by the Hub (401): log in with hf auth login" in said["wrong"]


@pytest.mark.parametrize("name", ["street", "a/b/c", "/b", "a b/c"])
def test_a_repository_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no name of a repository: one is ORG/NAME"):
        push.main([str(tmp_path), name])


def test_a_run_or_a_licence_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is not a run folder"):
        push.main([str(tmp_path / "nothing"), NAME])
    with pytest.raises(UserError, match="--licence my own is none that the Hub knows"):
        push.main([str(tmp_path), NAME, "--licence", "my own"])
