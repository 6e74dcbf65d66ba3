"""`python -m zoo.convert`, as a user starts it: what it says, what it writes, and what it refuses in one sentence."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo.convert
from runtime.errors import UserError
from tests import references
from tests.forged import Runs, write_zip
from tests.hub_stand_in import serving
from tests.tiny import assert_refused, called, command, environment
from zoo.convert import model_config
from zoo.convert.__main__ import main

NAMES = ["road", "sidewalk", "car"]
REPOSITORY_NAME = "someone/segformer-tiny"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A tiny SegFormer as Hugging Face's save_pretrained leaves it."""
    transformers = references.transformers()
    folder = tmp_path_factory.mktemp("hub") / "segformer-tiny"
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=16,
        id2label=dict(enumerate(NAMES)),
    )
    references.randomise(transformers.SegformerForSemanticSegmentation(config)).save_pretrained(folder)
    return folder


def without(folder: Path, target: Path, name: str) -> Path:
    """The same checkpoint less one tensor."""
    import safetensors.numpy

    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    del tensors[name]
    safetensors.numpy.save_file(tensors, target / "model.safetensors")
    return target


def test_it_says_and_writes_what_it_found(tmp_path, model_folder):
    done = run(tmp_path, str(model_folder), "--out", "made/tiny.weights.h5", "--name", "my segformer")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # none of TensorFlow's notes
    said = done.stdout
    assert "segformer" in said and " used, 0 left over, 0 missing" in said
    assert "classes: 3: road, sidewalk, car" in said
    made = json.loads((tmp_path / "made/tiny.json").read_text())
    assert made["format"] == 1 and made["model"] == "segformer"
    assert made["arguments"]["classes"] == 3 and "image_size" not in made["arguments"]
    assert made["classes"] == NAMES and made["palette"] is None
    assert made["source"]["name"] == "my segformer"
    assert made["source"]["sha256"] == sha256(model_folder / "model.safetensors")
    assert made["weights_sha256"] == sha256(tmp_path / "made/tiny.weights.h5")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["tiny.json", "tiny.weights.h5"]


def test_the_rebuilt_model_is_the_checkpoint_s(tmp_path, model_folder, capsys):
    assert main([str(model_folder), "--out", str(tmp_path / "t.weights.h5")]) == 0
    torch = references.torch()
    theirs = references.transformers().SegformerForSemanticSegmentation.from_pretrained(model_folder).eval()
    images = references.images(64, 96)
    seen = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        logits = theirs(torch.tensor(seen.transpose(0, 3, 1, 2), dtype=torch.float32)).logits
        expected = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear", align_corners=False)
    for path in (tmp_path / "t.json", tmp_path / "t.weights.h5"):
        for size in (None, (64, 96)):
            model = zoo.convert.rebuild(path, size)
            found = np.asarray(model(images, training=False)["logits"])
            references.assert_parity(found, expected.numpy().transpose(0, 2, 3, 1))


def test_what_was_assumed_is_said_and_kept_in_the_card(tmp_path, model_folder, capsys):
    """The folder has a config.json, which tells the heads, and no preprocessor_config.json."""
    assert (
        main([str(model_folder), "--out", str(tmp_path / "a.weights.h5"), "--set", "mean=0.5,0.5,0.5"]) == 0
    )
    said = capsys.readouterr().out
    assert "assumed, as nothing in it says so: channels=rgb std=0.229,0.224,0.225 factor=0.00392157" in said
    made = json.loads((tmp_path / "a.json").read_text())
    assert made["source"]["assumed"].keys() == {"channels", "std", "factor"}
    np.testing.assert_allclose(
        made["arguments"]["backbone_sizes"]["offset"], -0.5 / np.array([0.229, 0.224, 0.225])
    )
    for wrong, words in (
        ("mean=x", "like 0.485"),
        ("mean", "not NAME=VALUE"),
        ("colour=1", "nothing that --set colour"),
    ):
        with pytest.raises(UserError, match=words):
            main([str(model_folder), "--out", str(tmp_path / "b.weights.h5"), "--set", wrong])


def test_another_number_of_classes_gets_a_new_head(tmp_path, model_folder, capsys):
    assert main([str(model_folder), "--out", str(tmp_path / "a.weights.h5")]) == 0
    assert main([str(model_folder), "--out", str(tmp_path / "b.weights.h5"), "--classes", "7"]) == 0
    said = capsys.readouterr().out
    assert "classes: 7 in place of 3" in said and "new and random, to be trained: classifier/kernel" in said
    made = json.loads((tmp_path / "b.json").read_text())
    assert made["arguments"]["classes"] == 7 and made["classes"] is None
    old, new = (zoo.convert.rebuild(tmp_path / f"{name}.json") for name in "ab")
    assert new.output["logits"].shape == (None, None, None, 7)
    for ours, theirs in zip(new.weights, old.weights, strict=True):
        if not ours.path.startswith("classifier/"):
            np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_the_same_number_of_classes_keeps_the_head(tmp_path, model_folder, capsys):
    assert main([str(model_folder), "--out", str(tmp_path / "c.weights.h5"), "--classes", "3"]) == 0
    assert "new and random" not in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["classes"] == NAMES


def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, model_folder):
    folder = tmp_path / "in"
    folder.mkdir()
    harmed = tmp_path / "harmed"
    bad = write_zip(folder / "bad.pth", pickle.dumps({"a": Runs(os.system, f"touch {harmed}")}, 2))
    whole = (model_folder / "model.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    lacking = without(model_folder, folder / "lacking", "decode_head.batch_norm.weight")
    headless = without(model_folder, folder / "headless", "decode_head.classifier.weight")
    for source, options, words in [
        (bad, [], ["bad.pth", "system", "never run"]),
        (folder / "cut.safetensors", [], ["cut.safetensors", "cut short"]),
        (folder / "none.pth", [], ["none.pth", "does not exist"]),
        (model_folder, ["--classes", "1"], ["2 classes or more, not 1"]),
        (lacking, [], ["lacking lacks", "decode_head.batch_norm.weight"]),
        (headless, [], ["headless lacks", "decode_head.classifier.weight"]),
    ]:
        with pytest.raises(UserError) as caught:
            main([str(source), "--out", str(tmp_path / "out/x.weights.h5"), *options])
        for word in words:
            assert word in str(caught.value), caught.value
        assert "\n" not in str(caught.value)
    assert not harmed.exists() and not (tmp_path / "out").exists()


def test_bad_input_ends_the_command_with_code_2(tmp_path, capsys):
    harmed = tmp_path / "harmed"
    bad = write_zip(tmp_path / "bad.pth", pickle.dumps({"a": Runs(os.system, f"touch {harmed}")}, 2))
    assert called(main, bad, "--out", tmp_path / "x.weights.h5") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in ("bad.pth", "system", "never run"))
    assert not harmed.exists()


def test_an_unknown_layout_names_those_that_are_known(tmp_path):
    import safetensors.numpy

    safetensors.numpy.save_file({"who.knows": np.zeros(3, np.float32)}, tmp_path / "u.safetensors")
    with pytest.raises(UserError, match=r"u\.safetensors .*who\.knows.*SegFormer"):
        main([str(tmp_path / "u.safetensors"), "--out", str(tmp_path / "u.weights.h5")])


def test_out_must_be_a_weights_file(tmp_path, model_folder):
    for out in ("model.h5", ".weights.h5", "model.keras"):
        with pytest.raises(UserError, match=r"should end in \.weights\.h5"):
            main([str(model_folder), "--out", str(tmp_path / out)])
    (tmp_path / "d.weights.h5").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        main([str(model_folder), "--out", str(tmp_path / "d.weights.h5")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        main([str(model_folder), "--out", str(tmp_path / "file/x.weights.h5")])


def test_cards_that_do_not_fit_are_refused(tmp_path, model_folder, capsys):
    assert main([str(model_folder), "--out", str(tmp_path / "t.weights.h5")]) == 0
    weights, path = tmp_path / "t.weights.h5", tmp_path / "t.json"
    sound, text = weights.read_bytes(), path.read_text()
    weights.write_bytes(sound[:-1])
    with pytest.raises(UserError, match="t.weights.h5 is not what t.json was written for"):
        zoo.convert.rebuild(path)
    weights.write_bytes(sound)
    for change, words in [
        ({"format": 2}, "format 2"),
        ({"model": "nobody"}, "nobody"),
        ({"arguments": [1]}, "not what zoo.convert writes"),
        ({"arguments": {"classes": 4}}, "cannot be loaded"),
    ]:
        path.write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(UserError, match=words):
            zoo.convert.rebuild(path)
    path.write_text(text[:20])
    with pytest.raises(UserError, match="t.json cannot be read"):
        model_config.read(path)
    path.unlink()
    with pytest.raises(UserError, match="its config t.json, .* is not beside it.*write_config"):
        zoo.convert.rebuild(weights)


@pytest.fixture
def hub(model_folder) -> Iterator[Any]:
    """A stand-in of the Hub that has the model, and files that nobody should fetch."""
    files = {file.name: file.read_bytes() for file in model_folder.iterdir()}
    files["preprocessor_config.json"] = b'{"image_mean": [0.5, 0.5, 0.5]}'
    for name in ("README.md", "pytorch_model.bin", "modeling_evil.py", "training_args.bin"):
        files[name] = b"not wanted"
    with serving() as server:
        server.repositories[REPOSITORY_NAME] = files
        yield server


def run(cwd: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in a second process, with no cache but its own."""
    return second_process(cwd, command("zoo.convert", *arguments), **more)


def second_process(cwd: Path, line: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in environment().items() if not name.startswith("HF_")}
    return subprocess.run(
        line,
        cwd=cwd,
        env={**inherited, "HF_HOME": str(cwd / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_model_of_the_hub_by_its_name(tmp_path, hub):
    done = run(tmp_path, REPOSITORY_NAME, "--out", "h.weights.h5", HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "h.json").read_text())
    assert made["source"]["name"] == REPOSITORY_NAME and made["classes"] == NAMES
    fetched = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}

    hub.asked.clear()
    hub.gone = True  # what was fetched once is there without the hub
    again = run(tmp_path, REPOSITORY_NAME, "--out", "i.weights.h5", HF_ENDPOINT=hub.address)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "i.json").read_text())["source"] == made["source"]


REFUSED = {
    "refused-404-RepoNotFound": "is no file or folder here and no model on the Hub",
    "refused-404-RevisionNotFound": "no such revision",
    "refused-403-GatedRepo": "HF_TOKEN",
    "refused-500-": "cannot be reached",
}
# One process for all: the client takes its endpoint and its cache from the environment when it is imported.
ONE_BY_ONE = """
import sys
from runtime.errors import exit_on_user_error
from zoo.convert.__main__ import main
codes = [exit_on_user_error(main, [name, "--out", "h.weights.h5"]) for name in sys.argv[1:]]
assert codes == [2] * 4, codes
"""


def test_what_the_hub_refuses_is_one_sentence(tmp_path, hub):
    names = [f"{REPOSITORY_NAME}@{revision}" for revision in REFUSED]
    done = second_process(tmp_path, [sys.executable, "-c", ONE_BY_ONE, *names], HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    for line, words in zip(lines, REFUSED.values(), strict=True):
        assert REPOSITORY_NAME in line and words in line
    assert not (tmp_path / "h.weights.h5").exists()


def test_without_a_network_it_says_so(tmp_path):
    done = run(tmp_path, REPOSITORY_NAME, "--out", "h.weights.h5", HF_ENDPOINT="http://127.0.0.1:9")
    assert_refused(done, REPOSITORY_NAME, "http://127.0.0.1:9 cannot be reached", "with a network")
    assert len(done.stderr.strip().splitlines()) == 1


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
