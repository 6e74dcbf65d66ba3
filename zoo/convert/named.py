"""Models of the zoo by name: `zoo.load(NAME)`, and the FILE.weights.h5 that a name stands for.

A name is one of `kerbside list` (runtime/model_names.py) or hf://OWNER/NAME. What ships is used where it lies;
a checkpoint is fetched and converted once, into the cache, and its hash is checked each time.
"""

import os
import sys
from pathlib import Path

import keras

from runtime import fetch
from runtime.files import file_sha256
from runtime.model_names import ROWS, misspelt
from zoo.convert import model_config
from zoo.convert.conversion import convert
from zoo.convert.files import hub


def load(name: str | os.PathLike[str], image_size: tuple[int, int] | None = None) -> keras.Model:
    """The model of a name or of FILE.weights.h5, with its weights: image (B, H, W, 3), RGB 0..255 -> {"logits":
    (B, H, W, classes)}, at a static (H, W) or at any size. A name that is not here yet is fetched.

    Raises UserError, one sentence, where there is no such model, or it cannot be had.
    """
    return model_config.rebuild(weights(name), image_size)


def weights(name: str | os.PathLike[str]) -> Path:
    """The FILE.weights.h5, its FILE.json beside it, that a name stands for; any other path as it is. UserError where a
    name is none, or its file cannot be had."""
    text = os.fspath(name)
    if fetch.is_hub(text):
        return (
            fetch.from_hub(text, model_config.SUFFIX)
            if fetch.has_sums(text)
            else _converted(text, hub.fetch(text))
        )
    if Path(text).exists() or not fetch.is_name(text):
        return Path(text)
    row = ROWS.get(text)
    if row is None:
        near = misspelt(text)
        if near:
            raise near
        return Path(text)
    if row.weights and row.weights.source.endswith(model_config.SUFFIX):
        return fetch.fetched(row.weights, text)
    return _converted(text, hub.named(text))


def _converted(name: str, source: Path) -> Path:
    """A checkpoint, file or folder, as our own weights in the cache: converted once, under the beginning of its
    hash, or of its revision on the Hub."""
    slug = name.replace("hf:", "").strip("/").replace("/", "--").replace("@", "-")
    key = file_sha256(source) if source.is_file() else source.name
    out = fetch.cache() / f"{slug}-{key[:8]}{model_config.SUFFIX}"
    if not (out.is_file() and model_config.config_path(out).is_file()):
        convert(source, out, name, lambda line: print(line, file=sys.stderr, flush=True))
    return out
