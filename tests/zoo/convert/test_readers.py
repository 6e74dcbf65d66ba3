"""Checkpoint files as they are read, held against the libraries that wrote them; and files made to do harm."""

import argparse
import collections
import datetime
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from runtime.errors import UserError
from tests import references
from tests.forged import Runs, forged, write_stream, write_zip
from zoo.convert.files import readers

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])


def write(path: Path, tree: bytes, is_zip: bool) -> Path:
    return write_zip(path, tree) if is_zip else write_stream(path, tree)


def assert_refused(path: Path, *words: str) -> None:
    """One sentence that names the file."""
    with pytest.raises(UserError) as caught:
        readers.read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message, message


def odd_tensors() -> dict[str, Any]:
    torch = references.torch()
    torch.manual_seed(0)
    flat = torch.arange(100, dtype=torch.float32)
    return collections.OrderedDict(
        plain=torch.randn(3, 4, 5),
        transposed=torch.randn(4, 5).t(),
        permuted=torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2),
        window=flat[3:20],
        every_other=flat[50:80].view(5, 6)[:, ::2],
        expanded=torch.randn(3, 1).expand(3, 4),
        half=torch.randn(7).half(),
        bfloat16=torch.randn(3, 3).bfloat16().t(),
        double=torch.randn(2).double(),
        count=torch.tensor(5),
        yes_no=torch.tensor([True, False]),
        byte=torch.arange(200, 210, dtype=torch.uint8),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
    )


@FORMATS
def test_every_tensor_is_what_torch_itself_reads(tmp_path, is_zip):
    torch = references.torch()
    path = tmp_path / "odd.pth"
    torch.save(odd_tensors(), path, _use_new_zipfile_serialization=is_zip)
    assert zipfile.is_zipfile(path) == is_zip
    expected = torch.load(path, weights_only=True)
    found = readers.read(path).checkpoint.tensors
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.detach().float().numpy(), err_msg=name)
        assert found[name].shape == tuple(tensor.shape) and found[name].dtype == np.float32


def test_unsigned_tensors_of_an_untyped_storage(tmp_path):
    torch = references.torch()
    torch.save({"ids": torch.tensor([1, 70, 65000], dtype=torch.uint16)[1:]}, tmp_path / "u.pt")
    found = readers.read(tmp_path / "u.pt").checkpoint.tensors["ids"]
    np.testing.assert_array_equal(found, [70, 65000])


@FORMATS
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "module", "whatever"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_state_dict_comes_out_of_its_wrappers(tmp_path, is_zip, wrapper, prefix):
    torch = references.torch()
    state = {f"{prefix}{name}": torch.ones(2) for name in ("a.weight", "b.bias")}
    tree = {wrapper: state, "epoch": 3, "optimizer": {"state": {0: {"momentum": torch.ones(2)}}}}
    tree["meta"] = {
        "CLASSES": ("road", "car"),
        "PALETTE": np.array([[1, 2, 3], [4, 5, 6]]),
        "loss": np.float64(0.5),
    }
    torch.save(tree, tmp_path / "w.ckpt", _use_new_zipfile_serialization=is_zip)
    checkpoint = readers.read(tmp_path / "w.ckpt").checkpoint
    assert list(checkpoint.tensors) == ["a.weight", "b.bias"]
    assert checkpoint.meta["epoch"] == 3 and checkpoint.meta["CLASSES"] == ["road", "car"]
    assert checkpoint.meta["PALETTE"] == [[1, 2, 3], [4, 5, 6]] and checkpoint.meta["loss"] == 0.5


def test_other_wrappers(tmp_path):
    """Pairs, wrappers of wrappers, another network beside it, and networks of which none is the usual one."""
    torch = references.torch()
    state, path = {"a.weight": torch.ones(2)}, tmp_path / "w.pth"
    for tree in (
        (state, 3),
        [3, {"net": state}],
        {"epoch": 3, "a": {"b": {"c": state}}, "optimizer": {"x": state}},
    ):
        torch.save(tree, path)
        assert list(readers.read(path).checkpoint.tensors) == ["a.weight"]
    torch.save({"ema": {"a.weight": torch.zeros(2)}, "model": state}, path)
    found = readers.read(path).checkpoint
    assert found.tensors["a.weight"].sum() == 2 and found.others == ("ema",)
    torch.save({"teacher": state, "student": state}, path)
    assert_refused(path, "several dictionaries of tensors (teacher, student)", "model.state_dict()")


def test_what_training_scripts_keep_beside_is_data(tmp_path):
    """torchvision's references/segmentation/train.py saves its argparse.Namespace; others paths, dates and the like."""
    torch = references.torch()
    arguments = argparse.Namespace(
        model="fcn_resnet50", output_dir=tmp_path, when=datetime.datetime(2026, 11, 29)
    )
    counts = collections.defaultdict(list, {"a": [1]})
    tree = {
        "model": {"a.weight": torch.ones(2)},
        "epoch": 7,
        "args": arguments,
        "counts": counts,
        "ids": {1, 2},
    }
    torch.save(tree, tmp_path / "model_7.pth")
    checkpoint = readers.read(tmp_path / "model_7.pth").checkpoint
    assert list(checkpoint.tensors) == ["a.weight"]
    assert checkpoint.meta == {"epoch": 7, "args": None, "counts": {"a": [1]}, "ids": [1, 2]}


def test_a_preprocessor_is_read_from_where_transformers_looks(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    assert readers.read(tmp_path).checkpoint.preprocessor is None
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert readers.read(tmp_path).checkpoint.preprocessor == {"do_normalize": False}
    nested = {"image_processor": {"image_mean": [0.5, 0.5, 0.5]}, "processor_class": "SamProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert readers.read(tmp_path / "model.safetensors").checkpoint.preprocessor == nested["image_processor"]


@FORMATS
def test_mmsegmentation_s_log_buffers_are_passed_over(tmp_path, is_zip):
    torch = references.torch()
    references.mmseg()
    from mmengine.logging import HistoryBuffer

    logs = collections.OrderedDict({"train/loss": HistoryBuffer([1.0, 2.0], [1, 1])})
    tree = {
        "meta": {"dataset_meta": {"classes": ("road",), "palette": [[1, 2, 3]]}, "iter": 80000},
        "state_dict": {"decode_head.conv_seg.bias": torch.zeros(1)},
        "message_hub": {"log_scalars": logs, "runtime_info": {}, "resumed_keys": {}},
    }
    torch.save(tree, tmp_path / "m.pth", _use_new_zipfile_serialization=is_zip)
    checkpoint = readers.read(tmp_path / "m.pth").checkpoint
    assert list(checkpoint.tensors) == ["decode_head.conv_seg.bias"]
    assert checkpoint.meta["dataset_meta"] == {"classes": ["road"], "palette": [[1, 2, 3]]}


def harmful(target: Path) -> dict[str, Any]:
    return {
        "os.system": Runs(os.system, f"touch {target}"),
        "eval": Runs(eval, f"open({str(target)!r}, 'w')"),
        "open": Runs(open, str(target), "w"),
        "Path.touch": Runs(Path.touch, target),
        "import": Runs(__import__, "antigravity"),
    }


@FORMATS
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", ["os.system", "eval", "open", "Path.touch", "import"])
def test_what_a_pickle_wants_to_run_is_not_run(tmp_path, is_zip, protocol, kind):
    target = tmp_path / "harmed"
    tree = pickle.dumps({"state_dict": {}, "extra": harmful(target)[kind]}, protocol)
    if kind != "import":
        pickle.loads(tree)  # it does do harm where it is read carelessly
        assert target.exists()
        target.unlink()
    path = write(tmp_path / "bad.pth", tree, is_zip)
    assert_refused(path, "never run", "torch.save(model.state_dict()")
    assert not target.exists()


def test_the_sentence_names_what_was_to_be_run(tmp_path):
    tree = pickle.dumps(Runs(os.system, "true"), 2)
    assert_refused(write(tmp_path / "bad.pth", tree, True), f"{os.system.__module__}.system")


@pytest.mark.parametrize(
    "tree",
    [
        b"\x80\x02c__builtin__\ngetattr\nccollections\nOrderedDict\nX\x07\x00\x00\x00__init__\x86R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00_makeK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",
        b"\x80\x02(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02" + b"(" * 5000,
        b"",
    ],
    ids=["getattr", "build", "slots", "no storage", "container", "codec", "extension", "marks", "empty"],
)
def test_pickles_that_misuse_what_is_allowed(tmp_path, tree):
    assert_refused(write_zip(tmp_path / "bad.pth", tree))


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path):
    torch = references.torch()
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "m.pth")
    assert_refused(tmp_path / "m.pth", "torch.nn.modules.container.Sequential")


def test_torchscript_is_refused(tmp_path):
    assert_refused(write_zip(tmp_path / "s.pt", b".", **{"constants.pkl": b"."}), "TorchScript")


def test_big_endian_files_are_refused(tmp_path):
    assert_refused(write_zip(tmp_path / "b.pth", pickle.dumps({}), byteorder=b"big"), "big-endian")
    assert_refused(write_stream(tmp_path / "c.pth", pickle.dumps({}, 2), little_endian=False), "big-endian")


def test_a_forged_tensor_costs_nothing_and_reads_nothing_beyond_its_storage(tmp_path):
    data = np.arange(4, dtype="<f4").tobytes()
    path = tmp_path / "t.pth"

    def made(*args: Any, **options: Any) -> Path:
        return write_zip(path, forged(*args, **options), **{"data/0": data})

    found = readers.read(made((2, 2), (2, 1))).checkpoint.tensors["w"]
    np.testing.assert_array_equal(found, [[0, 1], [2, 3]])
    assert_refused(made((5,), (1,)), "beyond its storage")
    assert_refused(made((2,), (1,), offset=3), "beyond its storage")
    assert_refused(made((2,), (-1,), offset=3), "negative")
    assert_refused(made((1 << 40,), (0,)), "shape that cannot be")
    assert_refused(made((2,), (1, 1)), "shape that cannot be")
    assert_refused(made((2.5,), (1,)), "fractional")
    assert_refused(write_zip(path, forged((4,), (1,))), "no data/0")
    assert_refused(write_zip(path, forged((4,), (1,)), **{"data/0": data[:-1]}), "within a number")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    """A sound file of each format."""
    folder = tmp_path_factory.mktemp("good")
    torch = references.torch()
    state = {"a.weight": torch.randn(6, 5), "b.bias": torch.randn(7)}
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "stream.pth", _use_new_zipfile_serialization=False)
    safetensors.numpy.save_file({k: v.numpy() for k, v in state.items()}, folder / "s.safetensors")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["zip", "stream", "s"])
def test_a_file_cut_short_anywhere_is_said_to_be(tmp_path, good, kind):
    whole = good[kind].read_bytes()
    path = tmp_path / good[kind].name
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert_refused(path)


@pytest.mark.parametrize("kind", ["zip", "stream", "s"])
def test_a_damaged_file_is_read_or_refused_and_never_more(tmp_path, good, kind):
    whole = bytearray(good[kind].read_bytes())
    rng = np.random.default_rng(3)
    path = tmp_path / good[kind].name
    refused = 0
    for _ in range(200):
        damaged = whole.copy()
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            readers.read(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 20


def test_a_storage_that_lost_a_bit_does_not_have_its_checksum(tmp_path, good):
    whole = good["zip"].read_bytes()
    state = references.torch().load(good["zip"], weights_only=True)["a.weight"].numpy().tobytes()
    place = whole.index(state) + 5
    (tmp_path / "z.pth").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert_refused(tmp_path / "z.pth", "checksum")


def write_safetensors(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """By hand, since NumPy has no bfloat16 to save."""
    header, data = {}, b""
    for name, (kind, shape, raw) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_of_half_precision_become_float32(tmp_path):
    values = np.array([1.0, -2.5, 0.15625, 3e4], np.float32)
    bfloat16 = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = write_safetensors(
        tmp_path / "h.safetensors",
        {"b": ("BF16", (2, 2), bfloat16), "h": ("F16", (4,), values.astype("<f2").tobytes())},
    )
    found = readers.read(path).checkpoint.tensors
    assert found["b"].dtype == found["h"].dtype == np.float32
    np.testing.assert_array_equal(found["h"], values.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found["b"].ravel(), values, rtol=2**-7)  # bfloat16 has 8 bits
    assert found["b"].ravel()[1] == -2.5


def shard(folder: Path, names: dict[str, str]) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8")
    return folder


def test_a_folder_in_shards(tmp_path):
    for number, name in enumerate(("a", "b"), 1):
        array = np.full(3, number, np.float32)
        safetensors.numpy.save_file({name: array}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}', encoding="utf-8")
    source = readers.read(shard(tmp_path, names))
    assert sorted(source.checkpoint.tensors) == ["a", "b"]
    assert source.checkpoint.config == {"model_type": "segformer"} and len(source.sha256) == 64
    (tmp_path / names["b"]).unlink()
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors"):
        readers.read(tmp_path)


def test_an_index_does_not_lead_out_of_its_folder(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), 7):
        with pytest.raises(UserError, match="not in its folder"):
            readers.read(shard(folder, {"a": name}))


def test_a_folder_s_own_config_goes_with_a_file_named_in_it(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "x"}', encoding="utf-8")
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert readers.read(tmp_path / "other.safetensors").checkpoint.config == {}
    assert readers.read(tmp_path).checkpoint.config == {"model_type": "x"}  # the only one of the folder
    (tmp_path / "other.safetensors").rename(tmp_path / "model.safetensors")
    assert readers.read(tmp_path / "model.safetensors").checkpoint.config == {"model_type": "x"}


def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path):
    assert_refused(tmp_path / "nothing.pth", "does not exist")
    assert_refused(tmp_path, "no model folder", "none of these")
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"<html>not found</html>")
    assert_refused(tmp_path, "2 files")
    assert_refused(tmp_path / "a.pth", "no file of torch.save")
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert_refused(tmp_path / "a.onnx", ".safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert_refused(tmp_path / "a.safetensors", "Git LFS")
    (tmp_path / "c.pth").write_bytes(pickle.dumps({"a": 1}))
    assert_refused(tmp_path / "c.pth", "not one of torch.save")
    assert_refused(write_zip(tmp_path / "d.pth", pickle.dumps([1, 2], 2)), "no tensors in a dictionary")
    assert_refused(write_zip(tmp_path / "e.pth", pickle.dumps({"a": 1}, 2)), "no tensors")


def test_damaged_presets_of_keras_hub(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"registered_name": "keras_hub>DeepLabV3Backbone"}', encoding="utf-8"
    )
    assert_refused(tmp_path, "without model.weights.h5")
    (tmp_path / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(UserError, match="damaged"):
        readers.read(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        readers.read(tmp_path)


def test_a_compressed_record_is_not_of_torch(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    (tmp_path / "bomb.pth").write_bytes(buffer.getvalue())
    assert_refused(tmp_path / "bomb.pth", "damaged")
