"""What a stranger's checkpoint can do: nothing but be refused, in a sentence, within ten seconds and 2 GB."""

import gzip
import json
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy

from runtime.errors import UserError
from tests.bounded import bounded
from tests.forged import forged, write_stream, write_zip
from tests.shared import CASES, present
from training.runs.backbone_weights import _read_file
from zoo.convert.files import h5, readers
from zoo.convert.files.h5 import HEADER

MADE_BY_HAND = ("self_ref", "laughs400", "memo_bomb", "many_dims", "zerodim", "big_int_key", "deep_key_str",
                "deep_tuple_hash")  # fmt: skip


def refused(call: Callable[[], object], path: Path, *words: str) -> None:
    how, said = bounded(call)
    assert how == "refused", said
    assert str(path) in said and "\n" not in said and said.endswith("."), said
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("name", MADE_BY_HAND)
def test_pickles_made_by_hand_are_refused_in_a_sentence(tmp_path, name):
    packed, path = CASES / f"{name}.pth.gz", CASES / f"{name}.pth"
    if packed.exists():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    present(path)
    refused(lambda: readers.read(path), path)


def doubled(opening: bytes, join: bytes, levels: int = 60) -> bytes:
    """Each level holds the one before twice: 2**levels when it is copied, compared, hashed or printed."""
    return b"\x80\x02" + opening + (b"q\x00h\x00" + join) * levels


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


ENCODE = b"c_codecs\nencode\nq\x01" + text("a" * 1_000_000) + text("latin1") + b"\x86q\x02"
PICKLES = {
    "tuples as a key": b"}" + doubled(b"K\x01", b"\x86")[2:] + b"K\x01s.",
    "tuples in a set": b"c__builtin__\nset\n]" + doubled(b"K\x01", b"\x86")[2:] + b"a\x85R.",
    "tuples as a storage": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    + doubled(b"K\x01", b"\x86")[2:]
    + b"X\x03\x00\x00\x00cpuK\x04tQ.",
    "tuples as a dtype": b"cnumpy\ndtype\n" + doubled(b"K\x01", b"\x86")[2:] + b"\x85R.",
    "tuples as a method": b"c__builtin__\ngetattr\ncargparse\nNamespace\n" + doubled(b"K\x01", b"\x86")[2:] + b"\x86R.",
    "one text copied for ever": ENCODE + b"0" + b"h\x01h\x02R" * 10_000 + b".",
    "a memo far out": b"K\x01r\xff\xff\xff\xff.",
    "a text longer than the file": b"\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "steps without end": b"N0" * 2_000_000 + b"N.",
    "tuples a million deep": b")" + b"\x85" * 1_000_000 + b".",
    "a shape of no numbers": b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00NNtR.",
}  # fmt: skip


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_that_grow_are_refused_in_a_sentence(tmp_path, kind, is_zip):
    tree, path = b"\x80\x02" + PICKLES[kind], tmp_path / "bad.pth"
    write_zip(path, tree) if is_zip else write_stream(path, tree)
    refused(lambda: readers.read(path), path)


def test_tensors_may_not_be_larger_than_the_file(tmp_path):
    """By strides of 0: one, and many that are small each."""
    path, data = tmp_path / "t.pth", np.zeros(4, "<f4").tobytes()
    write_zip(path, forged((3_000_000, 1_000), (0, 0)), **{"data/0": data})
    refused(lambda: readers.read(path), path, "shape that cannot be")
    one = forged((1000, 1000), (0, 0))[2 + len(b"}X\x01\x00\x00\x00w") : -2]
    many = b"".join(text(f"w{number}") + one for number in range(3000))
    write_zip(path, b"\x80\x02}(" + many + b"u.", **{"data/0": data})
    refused(lambda: readers.read(path), path, "more elements than the file")


def test_a_header_of_a_safetensors_is_bounded(tmp_path):
    path = tmp_path / "h.safetensors"
    header = b'{"a":' + b" " * (1 << 24) + b"{}}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: readers.read(path), path, "header")


def keras_hub_folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"registered_name": "keras_hub>DeepLabV3Backbone"}')
    return tmp_path / "model.weights.h5"


def external(file: h5py.File, folder: Path) -> None:
    (folder / "secret.bin").write_bytes(b"password" * 100)
    file.create_dataset("w", (100,), "f4", external=[(str(folder / "secret.bin"), 0, 400)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones(100, "f4")
    layout = h5py.VirtualLayout((100,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (100,))
    file.create_virtual_dataset("w", layout)


def linked(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones(100, "f4")
    file["w"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft(file: h5py.File, folder: Path) -> None:
    file["w"] = h5py.SoftLink("/nowhere")


def filled(file: h5py.File, folder: Path) -> None:
    file.create_dataset("w", (1 << 31,), "f4", chunks=(1 << 20,), fillvalue=1.5, compression="gzip")


def named_often(file: h5py.File, folder: Path) -> None:
    file["w"] = np.zeros(300_000, "f4")
    for number in range(2000):
        file[f"w{number}"] = file["w"]


def words(file: h5py.File, folder: Path) -> None:
    file.create_dataset("w", data=["text"])


H5 = {external: "another file", virtual: "put together", linked: "link", soft: "link", filled: "as the file",
      named_often: "as the file", words: "numbers"}  # fmt: skip


@pytest.mark.parametrize("make", H5, ids=lambda make: make.__name__)
def test_an_h5_leads_nowhere_and_is_no_larger_than_it_is(tmp_path, make):
    path = keras_hub_folder(tmp_path)
    with h5py.File(path, "w") as file:
        make(file, tmp_path)
    refused(lambda: readers.read(tmp_path), path, H5[make])  # a preset of KerasHub
    refused(lambda: _read_file(path, "resnet50"), path, H5[make])  # --backbone-weights
    refused(partial(h5.check, path), path, H5[make])  # before Keras loads a .weights.h5


def test_a_group_in_itself_is_read_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inner/w"] = np.ones(3, "f4")
        file["inner/outer"] = file["/"]
    with h5.opened(tmp_path / "a.h5") as file:
        assert [name for name, _ in h5.arrays(file)] == ["inner/w"]


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 0), (1, (1 << 64) - HEADER), (1, (1 << 64) - 1), (1, 1 << 20), (0, 1 << 20)],
)
def test_a_heap_whose_objects_have_no_length_is_refused(tmp_path, index, size):
    """Object 0 of no size, and one whose size comes round to 0 in 64 bits: HDF5 2.0 would never end."""
    path = tmp_path / "a.weights.h5"
    sound_h5(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + HEADER
    data[place : place + 2] = index.to_bytes(2, "little")
    data[place + 8 : place + HEADER] = size.to_bytes(8, "little")
    path.write_bytes(data)
    refused(partial(h5.check, path), path, "global heap")
    path.write_bytes(data[:13] + b"\x04\x04" + data[15:])  # lengths of 4 bytes, which would be read otherwise
    refused(partial(h5.check, path), path, "superblock")


@pytest.mark.parametrize("libver", ["earliest", "latest", "v108", "v110"])
def test_strings_of_any_length_in_files_of_any_version_are_read(tmp_path, libver):
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["w"] = np.frombuffer(b"GCOL\x01" * 8, np.uint8)  # no heap, though it begins like one
        for count in (0, 1, 7, 8, 9, 5000):
            file.attrs[f"of {count}"] = ["x" * count] * 3
    with h5.opened(path) as file:
        assert [len(file.attrs[f"of {count}"][0]) for count in (0, 9, 5000)] == [0, 9, 5000]


# Readers, and what a sound file of each is: the fuzzer's table.
def sound_pth(path: Path, is_zip: bool) -> None:
    tensor = forged((2, 2), (2, 1))
    if is_zip:
        write_zip(path, tensor, **{"data/0": np.arange(4, dtype="<f4").tobytes()})
    else:
        storage = struct.pack("<Q", 4) + np.arange(4, dtype="<f4").tobytes()
        head = write_stream(path, tensor).read_bytes().removesuffix(pickle.dumps([], 2))
        path.write_bytes(head + pickle.dumps(["0"], 2) + storage)


def sound_safetensors(path: Path) -> None:
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16)}
    safetensors.numpy.save_file(arrays, path)


def sound_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 4), "f4")
        file.create_dataset("layers/dense/vars/1", data=np.ones(64, "f4"), chunks=(16,), compression="gzip")
        file["layers/dense/vars"].attrs["name"] = "dense"


def sound_index(path: Path) -> None:
    path.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "zip.pth": (partial(sound_pth, is_zip=True), readers.read),
    "stream.pth": (partial(sound_pth, is_zip=False), readers.read),
    "a.safetensors": (sound_safetensors, readers.read),
    "a.weights.h5": (sound_h5, lambda path: readers._h5(path)),
    "backbone.weights.h5": (sound_h5, lambda path: _read_file(path, "resnet50")),
    "model.safetensors.index.json": (sound_index, readers.read),
}


def mutants(whole: bytes, count: int, seed: int) -> list[bytes]:
    """Bytes changed, cut out, repeated, and numbers made large."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            place, way = int(rng.integers(len(data))), rng.integers(4)
            if way == 0:
                data[place] = rng.integers(256)
            elif way == 1:
                del data[place : place + int(rng.integers(1, 9))]
            elif way == 2:
                data[place:place] = data[place : place + int(rng.integers(1, 60))]
            else:
                data[place : place + 4] = b"\xff\xff\xff\x7f"
            data = data or bytearray(b"\0")
        made.append(bytes(data))
    return made


@pytest.mark.parametrize(
    ("count", "seed"), [(60, 1), pytest.param(3000, 2, marks=pytest.mark.slow)], ids=["quick", "long"]
)
@pytest.mark.parametrize("kind", READERS)
def test_a_mutant_is_read_or_refused_in_a_sentence(tmp_path, kind, count, seed):
    make, read = READERS[kind]
    path = tmp_path / kind
    make(path)

    def all_of_them() -> None:
        for data in mutants(path.read_bytes(), count, seed):
            path.write_bytes(data)
            (tmp_path / "last").write_bytes(data)  # the one to look at
            try:
                read(path)
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error), str(error)

    how, said = bounded(all_of_them, seconds=10 + count // 10)
    assert how == "fine", said
