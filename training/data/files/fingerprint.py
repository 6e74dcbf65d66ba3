"""By what a run knows its data again: every image's name, in order, with checksums of what is in it.

data.json of a run folder holds a split's images as [[name, "PIXELS-LABELS"], ...]. The checksums are CRC-32, of the RGB
pixels and of the train ids as `read()` gives them. So they do not change when the data moves to another folder, and do
when an id stands for another class now, whatever class names say. Drawn data has no checksums but for a few images.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from runtime import strict_json
from runtime.errors import UserError
from runtime.files import write_whole
from training.data.spec import Example

NAME = "data.json"
SHOWN = 3  # images that a message names
READ = 8  # images of drawn data that are looked at
MOST_BYTES = 1_000_000_000

Images = list[tuple[str, str]]  # name, checksums or ""
Read = Callable[[int], tuple[np.ndarray, np.ndarray]]


def checksums(image: np.ndarray, labels: np.ndarray) -> str:
    """Of one example: RGB uint8 (H, W, 3) and train ids uint8 (H, W)."""
    return "-".join(f"{zlib.crc32(np.ascontiguousarray(part).data):08x}" for part in (image, labels))


def of(examples: Sequence[Example], read: Read) -> Images:
    """A split. Of examples that nothing has checksums of yet, a few all over it are read, by their index."""
    found = [(_plain(example.name), example.checksums) for example in examples]
    unread = [index for index, (_, known) in enumerate(found) if not known]
    for place in np.unique(np.linspace(0, len(unread) - 1, min(READ, len(unread))).astype(int)):
        index = unread[place]
        found[index] = (found[index][0], checksums(*read(index)))
    return found


def _plain(name: str) -> str:
    """A name that UTF-8 can hold: the file system's bytes need not be text."""
    return name.encode("utf-8", "backslashreplace").decode()


def keep(folder: Path, splits: Mapping[str, Images]) -> None:
    """Write data.json, an image a line."""
    parts = [
        f" {json.dumps(split)}: [\n"
        + ",\n".join(f"  {json.dumps([name, known])}" for name, known in images)
        + "\n ]"
        for split, images in splits.items()
    ]
    write_whole(folder / NAME, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def kept(folder: Path) -> dict[str, Images] | None:
    """What data.json says; None in a run that is older than it. UserError when it is damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = strict_json.read(path, MOST_BYTES)
        if not strict_json.fits(content, dict[str, list[tuple[str, str]]]):
            raise ValueError("it has to be {split: [[name, checksums], ...]}")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not what a run keeps of its data ({error}): bring it back, or delete it to go on "
            "without knowing whether the data has changed"
        ) from error
    return {split: [(name, known) for name, known in images] for split, images in content.items()}


def differences(before: Mapping[str, Images], now: Mapping[str, Images]) -> list[str]:
    """A clause for each way in which the data has changed."""
    return [f"{split} {clause}" for split in now for clause in _clauses(before.get(split, []), now[split])]


def _clauses(before: Images, now: Images) -> list[str]:
    old, new = dict(before), dict(now)
    both = [name for name in new if name in old]
    changed = [(name, old[name].split("-"), new[name].split("-")) for name in both if old[name] and new[name]]
    pixels = [name for name, ours, theirs in changed if ours[0] != theirs[0]]
    labels = [name for name, ours, theirs in changed if ours[1:] != theirs[1:]]
    moved = len(both) == len(old) == len(new) and list(old) != list(new)
    clauses = [
        _clause("has", [name for name in new if name not in old], "more"),
        _clause("lacks", [name for name in old if name not in new], "that it had"),
        _clause("has", pixels, "with other pixels"),
        _clause("has", labels, "whose labels mean other classes"),
        "has its images in another order" if moved else "",
    ]
    return [clause for clause in clauses if clause]


def _clause(verb: str, names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{verb} {len(names)} image{'s' if len(names) > 1 else ''} {what} ({listed})"
