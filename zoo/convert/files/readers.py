"""Public checkpoints on disk -> Checkpoint: .safetensors, files of torch.save, .tflite, and folders of a model hub.

A folder is one of Hugging Face (config.json with model.safetensors or pytorch_model.bin, in shards or not), what
segmentation_models_pytorch's save_pretrained writes, which is the same, or a KerasHub preset (config.json,
task.json, model.weights.h5, task.weights.h5). Every tensor comes as float32.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from runtime import strict_json
from runtime.errors import UserError, first_line
from runtime.files import file_sha256
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import h5, state_dicts, tflite
from zoo.convert.files.pth import torch_file

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
CONFIG = "config.json"
# Files of a folder that hold weights; the first that is there is read. An index names the shards.
WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
# Of a KerasHub preset: the name in Checkpoint.tensors begins with what stands before the file's.
KERAS_HUB = {"model": "model.weights.h5", "task": "task.weights.h5"}
KERAS_HUB_TASK = "task.json"
KERAS_HUB_CONVERTER = "image_converter.json"
# Hugging Face's, for how images are prepared: the second since its processors of several parts.
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
MOST_HEADER = 1 << 24  # bytes of a .safetensors' header; a network of 1,000 tensors has some 100 kB


@dataclass(frozen=True)
class Source:
    """A checkpoint that was read; `sha256` is of its weights file, or of the list of them as sha256sum prints it."""

    checkpoint: Checkpoint
    sha256: str


def read(path: Path) -> Source:
    """Read a checkpoint file or folder. Raises UserError, one sentence that names it and what would be right."""
    if path.is_dir():
        config = _json(path / CONFIG) if (path / CONFIG).exists() else {}
        if "registered_name" in config:
            return _keras_hub(path, config)
        files, beside = _weights_files(path), True
    elif path.exists():
        # Where a hub's own file is named, its configuration lies beside it.
        is_hubs = path.name in WEIGHTS
        config = _json(path.with_name(CONFIG)) if is_hubs and path.with_name(CONFIG).exists() else {}
        files = _weights_files(path.parent, path.name) if is_hubs else [path]
        beside = is_hubs
    else:
        raise UserError(f"{path} does not exist; name a checkpoint file, a model folder or a hub name.")
    tensors: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = {}
    others: tuple[str, ...] = ()
    for file in files:
        found, also, more = _read_file(file)
        tensors |= found
        meta |= also
        others += more
    if not tensors:
        raise UserError(f"{path} holds no tensors, so it is no checkpoint.")
    tensors = state_dicts.without_wrapping(tensors)
    prepared = _preprocessor(files[0].parent) if beside and files else None
    return Source(Checkpoint(tensors, path.name, config, meta, prepared, others=others), _sha256(files))


def _preprocessor(folder: Path) -> Mapping[str, Any] | None:
    """How the images of a model folder of Hugging Face are prepared, from where transformers looks first; None where no
    file says it."""
    plain, nested = (_json(folder / name) if (folder / name).exists() else None for name in PREPROCESSORS)
    inner = (nested or {}).get("image_processor")
    return inner if isinstance(inner, dict) else plain


def _read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """The tensors of one file, what else it says, and other networks in it. The suffix decides how it is read."""
    _refuse_pointer(path)
    if path.suffix == tflite.SUFFIX:
        return _tflite(path)
    if path.suffix == ".safetensors":
        return _safetensors(path), {}, ()
    if path.suffix in TORCH_SUFFIXES:
        return _torch(path)
    raise UserError(
        f"{path} is no checkpoint that is known by its name: it should end in {', '.join(SUFFIXES)} or "
        f"{tflite.SUFFIX}, or be the folder of a model."
    )


def _weights_files(folder: Path, name: str = "") -> list[Path]:
    """The weights files of a model folder: those of `name`, or of the first of WEIGHTS, or the only one there."""
    present = [name] if name else [name for name in WEIGHTS if (folder / name).exists()]
    if not present:
        others = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
        if len(others) == 1:
            return others
        found = f"{len(others)} files that could be weights" if others else "none of these"
        raise UserError(
            f"{folder} is no model folder: it should hold {WEIGHTS[1]}, {WEIGHTS[3]} or a KerasHub preset, and "
            f"has {found}; name one file."
        )
    first = folder / present[0]
    if not first.name.endswith(".index.json"):
        return [first]
    shards = _json(first).get("weight_map")
    names = sorted(set(shards.values())) if isinstance(shards, dict) else []
    for shard in names:
        # The index is of the checkpoint: it must not lead out of its folder.
        if not isinstance(shard, str) or Path(shard).name != shard or not (folder / shard).is_file():
            raise UserError(
                f"{first} names {shard!r}, which is not in its folder: download all of its files."
            )
    return [folder / shard for shard in names]


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MOST_HEADER:
            raise ValueError(f"its header claims {header} bytes, where {MOST_HEADER} are more than enough")
        with safetensors.safe_open(path, framework="numpy") as opened:
            # bfloat16 comes as ml_dtypes' type, which NumPy turns into float32 exactly.
            return {name: np.asarray(opened.get_tensor(name)).astype(np.float32) for name in opened.keys()}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged, cut short or no .safetensors: {first_line(error)}.") from error


def _tflite(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """The convolutions of a .tflite by their place, and as meta its graph, by which a layout knows them."""
    try:
        network = tflite.read(path)
    except ValueError as error:
        raise UserError(f"{path} {error}.") from error
    tensors: dict[str, np.ndarray] = {}
    for place, convolution in enumerate(network.convolutions):
        tensors |= {f"{place}/kernel": convolution.kernel, f"{place}/bias": convolution.bias}
    return tensors, {"tflite": network}, ()


def _torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """The state dict in a file of torch.save, out of its wrappers, as meta what lay around it, and the keys of other
    networks beside it."""
    with torch_file(path) as (tree, array):
        found, meta, others = state_dicts.find(tree, str(path))
        return {name: array(tensor) for name, tensor in found.items()}, meta, others


def _keras_hub(folder: Path, config: dict[str, Any]) -> Source:
    """A preset: the config of the backbone, that of the task under "task", tensors by their path in the .h5."""
    files = {part: folder / name for part, name in KERAS_HUB.items() if (folder / name).exists()}
    if "model" not in files:
        raise UserError(
            f"{folder} is a KerasHub preset without {KERAS_HUB['model']}: download all of its files."
        )
    task = folder / KERAS_HUB_TASK
    converter = folder / KERAS_HUB_CONVERTER
    config = {
        **config,
        "task": _json(task) if task.exists() else None,
        "image_converter": _json(converter) if converter.exists() else None,
    }
    tensors: dict[str, np.ndarray] = {}
    for part, path in files.items():
        tensors |= {f"{part}/{name}": array for name, array in _h5(path).items()}
    return Source(Checkpoint(tensors, folder.name, config), _sha256(list(files.values())))


def _h5(path: Path) -> dict[str, np.ndarray]:
    """Every array of a .weights.h5 by its path."""
    _refuse_pointer(path)
    with h5.opened(path) as file:
        return {name: np.asarray(item[()], np.float32) for name, item in h5.arrays(file)}


def _refuse_pointer(path: Path) -> None:
    """A repository cloned without its large files holds a few lines of text in their place."""
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is only Git LFS' pointer to the file: fetch the file itself (git lfs pull).")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = strict_json.read(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {first_line(error)}.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, where a JSON object should be.")
    return found


def _sha256(files: list[Path]) -> str:
    """Of one file its SHA-256; of several that of the lines "SHA-256  NAME"."""
    sums = [file_sha256(path) for path in files]
    if len(files) == 1:
        return sums[0]
    lines = "".join(f"{one}  {path.name}\n" for one, path in zip(sums, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()
