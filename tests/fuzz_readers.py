"""Every reader of files that strangers make, and a process that gives it damaged ones (tests/test_fuzz.py starts it).

    python -m tests.fuzz_readers FOLDER SEED COUNT READER...

A reader may return or refuse in one sentence. What it does else ends this process: an exception, a crash, more than
10 s of a processor (or a minute), or more than 2 GB of memory. FOLDER/now then names the reader, the number and the
file in FOLDER that did it.
"""

import hashlib
import importlib
import io
import json
import signal
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from runtime.confined import confine
from runtime.errors import UserError
from tests.tiny import REPOSITORY

MEGABYTES, SECONDS = 2048, 10
ROWS, COLUMNS = np.mgrid[0:24, 0:40].astype(np.uint8)
SMOOTH = np.stack([ROWS, COLUMNS, 90 - COLUMNS], -1) * np.uint8(5)


class Reader(NamedTuple):
    """What is damaged: the file's name, the bytes of some that are whole, and MODULE:FUNCTION, which takes its path.
    `also` are exceptions that its docstring names; `repair` makes checksums right again, half of the time."""

    name: str
    seeds: Callable[[], list[bytes]]
    read: str
    also: tuple[type[Exception], ...] = ()
    repair: Callable[[bytes], bytes] = bytes


def images() -> list[bytes]:
    kinds = (
        (".png", ()),
        (".bmp", ()),
        (".webp", ()),
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    )
    return [cv2.imencode(kind, SMOOTH, list(options))[1].tobytes() for kind, options in kinds]


def labels() -> list[bytes]:
    from PIL import Image

    made = []
    for mode, kind in (
        ("P", "PNG"),
        ("L", "PNG"),
        ("1", "PNG"),
        ("L", "TIFF"),
        ("L", "BMP"),
        ("I;16", "PNG"),
    ):
        buffer = io.BytesIO()
        grey = SMOOTH[..., 0] // 50
        image = (
            Image.fromarray(grey.astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        )
        image.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def masks() -> list[bytes]:
    return [
        cv2.imencode(kind, array // 50 * 50)[1].tobytes()
        for kind in (".png", ".bmp")
        for array in (SMOOTH, ROWS)
    ]


def videos() -> list[bytes]:
    path, made = Path("whole"), []
    for suffix, codec in (
        (".mp4", "mp4v"),
        (".avi", "MJPG"),
        (".mkv", "MJPG"),
        (".webm", "VP80"),
        (".mpg", "PIM1"),
    ):
        file = path.with_suffix(suffix)
        writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25.0, (40, 24))
        for number in range(5):
            writer.write(np.roll(SMOOTH, number, 1))
        writer.release()
        made.append(file.read_bytes())
    return made


def ours() -> list[bytes]:
    return [(REPOSITORY / "models/deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite").read_bytes()]


def another_s() -> list[bytes]:
    whole = ours()[0]
    return [whole[: whole.index(b"PK\3\4")]]  # without the archive that says its hash


def notes() -> list[bytes]:
    """Files of ours with the note stored as it is, so that damage meets the JSON and not only its packing."""
    with zipfile.ZipFile(io.BytesIO(ours()[0])) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return [b"\x1c\0\0\0TFL3" + buffer.getvalue()]


def jsons() -> list[bytes]:
    """One text that is right for most of the readers of JSON, and one for each other."""
    legend = {
        "by": "ids",
        "classes": [{"name": "road", "ids": [7, 8]}, {"name": "car", "id": 26}],
        "ignore": [255],
    }
    mapping = {"road": "drivable", "sky": None}
    index = {"count": 3, "state": {"a": [1, 2.5, "x"]}, "done": False, "uri": "x", "run_id": "y"}
    task = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
    return [json.dumps(one).encode() for one in (legend, mapping, index, task, ["road", "car"])]


def recipes() -> list[bytes]:
    from training.runs.recipe import Recipe

    return [Recipe.of(model="deeplabv3plus", data="scenes").to_json().encode()]


def configs() -> list[bytes]:
    text = {
        "format": 1,
        "model": "unet",
        "arguments": {"classes": 2},
        "classes": ["a", "b"],
        "source": {"name": "x"},
    }
    return [json.dumps({**text, "palette": [[1, 2, 3], [4, 5, 6]], "weights_sha256": "0" * 64}).encode()]


TENSORS = {"a.weight": np.arange(60, dtype=np.float32).reshape(3, 4, 5), "a.bias": np.ones(7, np.float32)}


def h5s() -> list[bytes]:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in TENSORS.items():
            file.create_dataset(f"layers/{name}/vars/0", data=array)
        file.create_dataset("layers/packed/vars/0", data=np.zeros((40, 40), np.float32), compression="gzip")
    return [buffer.getvalue()]


def pths() -> list[bytes]:
    """As torch.save writes them; without PyTorch there are none to damage."""
    try:
        import torch
    except ImportError:
        return []
    tree = {"state_dict": {name: torch.from_numpy(array) for name, array in TENSORS.items()}, "epoch": 3}
    made = []
    for is_zip in (True, False):
        buffer = io.BytesIO()
        torch.save(tree, buffer, _use_new_zipfile_serialization=is_zip)
        made.append(buffer.getvalue())
    return made


def tensors() -> list[bytes]:
    from safetensors.numpy import save

    return [save(TENSORS, {"format": "pt"})]


def checkpoints() -> list[bytes]:
    from training.runs.checkpoints import encode

    return [b"".join(encode(TENSORS, {"progress": {"step": 3, "loss_sum": 0.5, "history": []}}))]


def histories() -> list[bytes]:
    columns = ("epoch", "loss", "val_loss", "val_miou", "val_pixel_accuracy", "learning_rate")
    rows = [",".join(columns), *(",".join(str(n / 7) for _ in columns) for n in range(1, 6))]
    return ["\r\n".join(rows).encode()]


def sums() -> list[bytes]:
    names = ("street.tflite", "street.json", "street.weights.h5")
    return ["".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names).encode()]


def right_crc(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold now."""
    if not data.startswith(b"\x89PNG"):
        return data
    at, made = 8, bytearray(data)
    while at + 12 <= len(made):
        end = at + 12 + struct.unpack(">I", made[at : at + 4])[0]
        if end > len(made):
            break
        made[end - 4 : end] = struct.pack(">I", zlib.crc32(made[at + 4 : end - 4]))
        at = end
    return bytes(made)


LIGHT = {
    "image": Reader("a.png", images, "runtime.image:read_rgb", repair=right_crc),
    "video": Reader("a.mkv", videos, "tests.fuzz_readers:read_video"),
    "tflite": Reader("a.tflite", ours, "tests.fuzz_readers:read_tflite"),
    "note": Reader("a.tflite", notes, "runtime.bundle:read_bundle"),
    "note in a list": Reader("a.tflite", notes, "runtime.bundle:read_note"),
    "labels": Reader("a.tflite", notes, "runtime.bundle:foreign_labels"),
    "tflite of others": Reader("a.tflite", another_s, "tests.fuzz_readers:read_tflite"),
    "sums": Reader("SHA256SUMS", sums, "tests.fuzz_readers:read_sums"),
    "mask": Reader("a.png", masks, "app.painted:read_mask", repair=right_crc),
    "legend": Reader("a.json", jsons, "tests.fuzz_json:legend"),
}
HEAVY = {
    "label": Reader("a.png", labels, "training.data.labels.masks:read_ids", repair=right_crc),
    "weights.h5": Reader("a.weights.h5", h5s, "zoo.convert.files.readers:_h5"),
    "pth": Reader("a.pth", pths, "zoo.convert.files.readers:read"),
    "safetensors": Reader("a.safetensors", tensors, "zoo.convert.files.readers:read"),
    "tflite of a network": Reader("a.tflite", ours, "zoo.convert.files.readers:read"),
    "checkpoint": Reader("a.checkpoint", checkpoints, "training.runs.checkpoints:read", (ValueError,)),
    "history": Reader("history.csv", histories, "tests.fuzz_json:history"),
    "recipe": Reader("recipe.json", recipes, "training.runs.recipe:from_json"),
    "config": Reader("a.json", configs, "zoo.convert.model_config:read"),
    "classes": Reader("a.json", jsons, "training.data.labels.classes:read"),
    "mapping": Reader("a.json", jsons, "training.data.labels.taxonomies:read_mapping"),
    "index of copies": Reader("index.json", jsons, "tests.fuzz_json:copied"),
    "tracking": Reader("tracking.json", jsons, "tests.fuzz_json:tracked"),
    "TF_CONFIG": Reader("a.json", jsons, "tests.fuzz_json:cluster"),
    "configuration": Reader("config.json", jsons, "zoo.convert.files.readers:_json"),
}
READERS = {**LIGHT, **HEAVY}


def read_video(path: Path) -> None:
    from runtime.containers import opened

    capture = opened(path)
    try:
        for _ in range(20):
            if not capture.read()[0]:
                break
    finally:
        capture.release()


def read_sums(path: Path) -> None:
    from runtime.fetch import sums_of

    sums_of(path, "hf://me/street-model")


def read_tflite(path: Path) -> None:
    from runtime.segmenter import Segmenter

    Segmenter(path, threads=1).warm_up()


WORDS = (
    b"1e999",
    b"NaN",
    b"true",
    b"null",
    b"-1",
    b"9" * 20,
    b'"\\ud800"',
    b"[" * 200,
    b"{",
    b'""',
    b"1.5",
)


def damaged(whole: list[bytes], draw: np.random.Generator) -> bytes:
    """One of the files with one to six of: bits, bytes and numbers changed, pieces cut, doubled, moved, or foreign."""
    data = bytearray(whole[draw.integers(len(whole))])
    for _ in range(draw.integers(1, 7)):
        at = int(draw.integers(max(1, len(data))))
        span = int(draw.integers(1, 64))
        way = draw.integers(9)
        if way == 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << draw.integers(8)]) if at < len(data) else b"x"
        elif way == 1:
            data[at : at + 1] = bytes([draw.choice([0, 1, 127, 128, 255])])
        elif way == 2:
            number = int(draw.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65536, len(data)]))
            data[at : at + 4] = number.to_bytes(4, "big" if draw.random() < 0.5 else "little")
        elif way == 3:
            del data[at : at + span]
        elif way == 4:
            data[at:at] = data[at : at + span] * int(draw.integers(1, 20))
        elif way == 5 and draw.random() < 0.3:
            del data[at:]
        elif way == 6:
            data[at : at + span] = draw.bytes(span)
        elif way == 7:
            other = whole[draw.integers(len(whole))]
            start = int(draw.integers(len(other)))
            data[at : at + span] = other[start : start + span]
        elif way == 8:
            data[at : at + int(draw.integers(0, 8))] = WORDS[draw.integers(len(WORDS))]
    return bytes(data)


def try_one(reader: Reader, function: Callable[[Path], Any], path: Path, seconds: int) -> str:
    """What became of one file: "read" or "refused"; anything else is raised."""
    # Their defaults end the process, also from within C. A machine with other work to do is no fault of the file's.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(6 * seconds)
    try:
        function(path)
        return "read"
    except UserError as error:
        if "\n" in str(error) or "more memory" in str(error):
            raise RuntimeError(f"the sentence is wrong: {str(error)[:500]}") from error
        return "refused"
    except reader.also:
        return "refused"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def main(folder: str, seed: str, count: str, *names: str) -> None:
    import os

    os.chdir(folder)
    confine(MEGABYTES, 3600)
    for one in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(one, signal.SIG_DFL)
    for name in names:
        reader = READERS[name]
        module, _, function = reader.read.partition(":")
        read, whole = getattr(importlib.import_module(module), function), reader.seeds()
        draw = np.random.default_rng([int(seed), zlib.crc32(name.encode())])
        path, start, found = Path(reader.name), time.monotonic(), {"read": 0, "refused": 0}
        for number in range(int(count) if whole else 0):
            data = whole[number] if number < len(whole) else damaged(whole, draw)
            data = reader.repair(data) if number % 2 else data
            path.write_bytes(data)
            Path("now").write_text(f"{name} {number} {reader.name}", encoding="utf-8")
            found[try_one(reader, read, path, SECONDS)] += 1
        print(
            json.dumps({"reader": name, **found, "seconds": round(time.monotonic() - start, 1)}), flush=True
        )
    Path("now").write_text("done", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
