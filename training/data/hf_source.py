"""Opens a data set of the library `datasets`: where it is, its splits, its two columns, its class names.

A local or downloaded one is Arrow files mapped into memory, of which any row is at hand. A stream is not: see
training/data/files/stream_copy.py for how one becomes files.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from runtime import strict_json
from runtime.errors import UserError, WriteError
from runtime.files import write_json
from training.data.files import random_splits
from training.data.files.stream_copy import copied
from training.data.spec import MOST_IDS, VOID_ID

EXTRAS = "pip install -r requirements-extras.txt"
IMAGES = ("image", "pixel_values", "img", "picture")
LABELS = (
    "annotation",
    "label",
    "labels",
    "mask",
    "segmentation",
    "segmentation_mask",
    "semantic_segmentation",
)


@dataclass(frozen=True)
class Ask:
    """The options of --data-option."""

    path: str = ""
    config: str = ""
    revision: str = ""
    image: str = ""
    label: str = ""
    splits: tuple[str, ...] | str = ()
    classes: tuple[str, ...] | str = ()
    ignore: tuple[int, ...] | int = VOID_ID
    stream: bool = False
    count: int = 0


class Source(NamedTuple):
    """Our split names to theirs, the two columns, the names of the label's ClassLabel or None, and how many
    images their splits have where that is known beforehand."""

    splits: Mapping[str, str]
    image: str
    label: str
    names: tuple[str, ...] | None
    sizes: Mapping[str, int] = {}


KEPT: dict[str, Any] = {  # the types of a Source that is kept as JSON
    "splits": dict[str, str],
    "image": str,
    "label": str,
    "names": list[str] | None,
    "sizes": dict[str, int],
}


def checked(ask: Ask) -> Ask:
    if not ask.path:
        raise UserError("--data hf needs --data-option path=ORG/NAME, or path=FOLDER.")
    if not isinstance(ask.count, int) or ask.count < 0:
        raise UserError(f"count={ask.count} has to be a whole number; 0 takes all.")
    if not isinstance(ask.stream, bool):
        raise UserError(f"stream={ask.stream} has to be true or false.")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in dataclasses.asdict(ask).items()
    }
    values |= {
        key: str(values[key]) for key in ("config", "revision", "image", "label")
    }  # config=1.0 is a number
    return Ask(**{**values, "path": str(Path(ask.path).expanduser()) if ask.path[0] == "~" else ask.path})


@functools.lru_cache(maxsize=4)  # its classes, its train split and its val split are asked for one by one
def local(ask: Ask, cache: str | None) -> tuple[Source, Any]:
    """The data set on this machine, downloaded if need be, and its splits by their own names."""
    datasets = library()
    with reaching(ask.path):
        if any((Path(ask.path) / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(ask.path)
        else:
            named = {"name": ask.config or None, "revision": ask.revision or None}
            found = datasets.load_dataset(ask.path, cache_dir=cache, **named)
        if not isinstance(found, dict):
            found = {"train": found}
        source = source_of(ask, {name: part.features for name, part in found.items()})
        undecoded = {name: undecode(part, source) for name, part in found.items()}
    return source, undecoded


def undecode(part: Any, source: Source) -> Any:
    """The two columns alone, with the images' own bytes: our readers decode them, and refuse what they must."""
    part = part.select_columns([source.image, source.label])
    for column in (source.image, source.label):
        if type(part.features[column]).__name__ == "Image":
            part = part.cast_column(column, library().Image(decode=False))
    return part


def source_of(ask: Ask, features: Mapping[str, Mapping[str, Any]]) -> Source:
    """Splits, columns and class names by what a data set says of itself; UserError when it leaves them open."""
    own = next(iter(features.values()))
    images = [name for name, kind in own.items() if type(kind).__name__ == "Image"]
    image = _column(ask, "image", ask.image, own, [name for name in images if name in IMAGES] or images[:1])
    rest = [name for name in own if name != image]
    usual = [name for name in LABELS if name in rest and _holds_ids(own[name])]
    label = _column(ask, "label", ask.label, own, usual or [name for name in images if name != image])
    if type(own[image]).__name__ != "Image":
        raise UserError(
            f"The column {image} of {ask.path} holds no images; image= has to name one that does."
        )
    if not _holds_ids(own[label]):
        raise UserError(
            f"The column {label} of {ask.path} holds neither images nor rows of ids; "
            "label= has to name one that does."
        )
    return Source(
        random_splits.named(as_tuple(ask.splits), list(features), ask.path),
        image,
        label,
        _class_label(own[label]),
    )


def _column(ask: Ask, option: str, named: str, own: Mapping[str, Any], usual: list[str]) -> str:
    if named and named not in own:
        raise UserError(f"{ask.path} has no column {named}; it has {', '.join(own)}.")
    if not named and not usual:
        raise UserError(
            f"Say which column of {ask.path} is the {option}, with {option}=: it has {', '.join(own)}."
        )
    return named or usual[0]


def _holds_ids(kind: Any) -> bool:
    """A column of images, or of nested lists."""
    if type(kind).__name__ in ("Image", "Array2D"):
        return True
    return hasattr(getattr(kind, "feature", None), "feature")


def _class_label(kind: Any) -> tuple[str, ...] | None:
    while hasattr(kind, "feature"):
        kind = kind.feature
    return tuple(kind.names) if type(kind).__name__ == "ClassLabel" else None


@functools.lru_cache(maxsize=4)
def id2label(ask: Ask) -> Path | None:
    """id2label.json in the folder, or of the data set on the Hub."""
    if Path(ask.path).is_dir():
        file = Path(ask.path) / "id2label.json"
        return file if file.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with quietly():
            return Path(
                hf_hub_download(ask.path, "id2label.json", repo_type="dataset", revision=ask.revision or None)
            )
    except (EntryNotFoundError, OSError):  # there is none, or it cannot be fetched: names can still be given
        return None


def streamed(
    ask: Ask, data_dir: Path | str | None, split: str = ""
) -> tuple[Source, list[tuple[Path, Path]]]:
    """The same of a stream, and the files that `split` is copied into as far as `ask.count` says (no split: none).

    What is copied needs neither the library nor the Hub any more.
    """
    if data_dir is None:
        raise UserError("stream=true copies images into a folder: name it with --data-dir.")
    key = json.dumps([ask.path, ask.config, ask.revision, ask.image, ask.label, ask.splits])
    name = re.sub(r"[^A-Za-z0-9]+", "_", ask.path).strip("_")
    place = Path(data_dir) / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    source = _about(ask, place)
    if not split:
        return source, []
    own = source.splits[split]
    files = copied(
        place / split, functools.partial(_start, ask, source, own), ask.count, source.sizes.get(own)
    )
    return source, files


def _about(ask: Ask, place: Path) -> Source:
    """What is known of the stream, kept beside its copy."""
    path = place / "about.json"
    if path.is_file():
        try:
            kept = strict_json.checked(strict_json.read(path), KEPT)
            return Source(**{**kept, "names": tuple(kept["names"]) if kept["names"] else None})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); delete {place} to copy it again.") from error
    with reaching(ask.path):
        parts = _open_stream(ask)
        features = {
            name: part.features or part.take(1)._resolve_features().features for name, part in parts.items()
        }
        source = source_of(ask, features)
        infos = {name: (part.info.splits or {}).get(name) for name, part in parts.items()}
        source = source._replace(sizes={name: info.num_examples for name, info in infos.items() if info})
    try:
        write_json(path, source._asdict())
    except WriteError as error:
        raise UserError(f"{error.what}; choose another --data-dir.") from error
    return source


def _open_stream(ask: Ask) -> Any:
    named = {"name": ask.config or None, "revision": ask.revision or None}
    return library().load_dataset(ask.path, streaming=True, **named)


def _start(ask: Ask, source: Source, split: str, state: Any) -> tuple[Iterator[tuple[bytes, bytes]], Any]:
    with reaching(ask.path):
        part = undecode(_open_stream(ask)[split], source)
        if state:
            part.load_state_dict(state)

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        with reaching(ask.path):
            for row in part:
                yield _bytes(row[source.image]), _bytes(row[source.label])

    return pairs(), part.state_dict


def _bytes(value: Any) -> bytes:
    """An image's own bytes, fetched where only its address came; rows of ids as a grey PNG."""
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        import fsspec

        with fsspec.open(value["path"], "rb") as file:
            return bytes(file.read())
    return _png(grid(value, "a label"))


def grid(rows: Any, shown: str) -> np.ndarray:
    """Rows of ids as uint8 or uint16 (H, W); UserError when they are none."""
    try:
        ids = np.asarray(rows)
    except ValueError as error:
        raise UserError(f"{shown} is no grid of ids: its rows differ in length.") from error
    if (
        ids.ndim != 2
        or ids.dtype.kind not in "iu"
        or ids.min(initial=0) < 0
        or ids.max(initial=0) >= MOST_IDS
    ):
        raise UserError(f"{shown} has to be rows of ids from 0 to 65535, as many rows as the image has.")
    return ids.astype(np.uint8 if ids.max(initial=0) < 256 else np.uint16)


def _png(ids: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(ids).save(file, "PNG")
    return file.getvalue()


def library() -> Any:
    """The library `datasets`; UserError when it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"--data hf needs the library datasets: {EXTRAS}.") from error
    return datasets


@contextlib.contextmanager
def reaching(path: str) -> Iterator[None]:
    """Around what opens a data set: whatever goes wrong is one sentence."""
    try:
        with quietly():
            yield
    except UserError:
        raise
    except ConnectionError as error:
        raise UserError(
            f"{path} cannot be fetched, because the Hugging Face Hub cannot be reached: check the connection, or "
            "give path=FOLDER of a copy on this machine."
        ) from error
    except Exception as error:  # what is wrong with a data set surfaces in many guises
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"The data set {path} cannot be opened: {reason}.") from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the notes on every attempt to reach the Hub again."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) if value != "" else ()
