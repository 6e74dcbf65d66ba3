"""Models by name: those of the Hugging Face Hub and of Kaggle, fetched into the caches of their own libraries.

Only a model's configuration and weights are fetched, never code. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE
mean what they mean to huggingface_hub, KAGGLEHUB_CACHE what it means to kagglehub.
"""

import re
from pathlib import Path

from runtime import fetch as fetched_files
from runtime.errors import UserError, first_line
from runtime.files import file_sha256
from runtime.model_names import ROWS
from zoo.convert.files.readers import CONFIG, KERAS_HUB, KERAS_HUB_TASK, PREPROCESSORS, SUFFIXES, WEIGHTS

HUGGING_FACE = re.compile(r"(?:hf:/{1,2})?([\w][\w.-]*/[\w][\w.-]*)(?:@([\w./-]+))?")
KAGGLE = re.compile(r"kaggle://([\w.-]+/[\w.-]+/[\w.-]+/[\w.-]+(?:/\d+)?)")
TIMEOUT = 20.0  # seconds for a first answer
SHA256 = re.compile(r"[0-9a-f]{64}")
PRESET = (CONFIG, KERAS_HUB_TASK, "preprocessor.json", "image_converter.json", *KERAS_HUB.values())


def is_name(source: str) -> bool:
    """Whether a source that is no file is meant for a hub: OWNER/NAME, hf://OWNER/NAME, kaggle://..."""
    looks_like_a_file = source.endswith((*SUFFIXES, ".h5"))
    return bool(KAGGLE.fullmatch(source) or (HUGGING_FACE.fullmatch(source) and not looks_like_a_file))


def named(name: str) -> Path:
    """The checkpoint of a row of `runtime.model_names`, a file or a folder, as it was published; fetched if it is not
    here. UserError where the row has none, or it cannot be had."""
    weights = ROWS[name].weights
    if weights is None:
        raise UserError(f"{name} is a .tflite alone: it has no weights to build a model from.")
    return (
        fetch(weights.source) if weights.source.startswith("hf://") else fetched_files.fetched(weights, name)
    )


def fetch(name: str) -> Path:
    """The folder of a model of a hub; what is there already is not fetched again.

    `name` is OWNER/NAME or OWNER/NAME@REVISION, with or without hf://, or kaggle://OWNER/MODEL/keras/VARIANT.
    Raises UserError, one sentence, when there is no such model, no network, or no leave to read it.
    """
    kaggle = KAGGLE.fullmatch(name)
    if kaggle:
        return _fetch_from_kaggle(name, kaggle[1])
    match = HUGGING_FACE.fullmatch(name)
    if match is None:
        raise UserError(
            f"{name} is no name of a model on a hub; one is nvidia/segformer-b0-finetuned-ade-512-512."
        )
    return _fetch_from_hugging_face(name, match[1], match[2])


def _fetch_from_hugging_face(name: str, repository: str, revision: str | None) -> Path:
    import huggingface_hub

    try:
        # Not list_repo_files, which without a network tries again for half a minute.
        info = huggingface_hub.model_info(repository, revision=revision, timeout=TIMEOUT)
        present = [file.rfilename for file in info.siblings or []]
        wanted = _choose(name, present)
        folder = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except UserError:
        raise
    except Exception as error:  # of the HTTP library, which changes, and of sockets
        refusal = fetched_files.refused(error, name, revision)
        if refusal:
            raise refusal from error
        return _from_cache(name, repository, revision, error)
    return _checked(Path(folder), name)


def _from_cache(name: str, repository: str, revision: str | None, error: Exception) -> Path:
    """What an earlier call fetched, when the hub does not answer."""
    import huggingface_hub

    for file in (*WEIGHTS, *KERAS_HUB.values()):
        found = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return _checked(Path(found).parent, name)
    raise fetched_files.no_network(name) from error


def _checked(folder: Path, name: str) -> Path:
    """The folder, when each large file in it has the SHA-256 that the Hub said: huggingface_hub calls what it keeps by
    it, and checks no more than the size."""
    for file in folder.iterdir():
        kept = file.resolve()
        if SHA256.fullmatch(kept.name) and file_sha256(kept) != kept.name:
            raise UserError(
                f"{name} is not what the hub said: the SHA-256 of {file.name} is another; remove {kept}, and it is "
                "fetched again."
            )
    return folder


def _choose(name: str, present: list[str]) -> list[str]:
    """The files to fetch: the configuration, and the first kind of weights that is there."""
    if KERAS_HUB["model"] in present:
        return [file for file in PRESET if file in present]
    for weights in WEIGHTS:
        if weights in present:
            # Shards are named like their index: model-00001-of-00002.safetensors.
            stem, suffix = weights.split(".")[:2]
            shards = re.compile(rf"{stem}-\d+-of-\d+\.{suffix}")
            parts = (
                [file for file in present if shards.fullmatch(file)] if weights.endswith("index.json") else []
            )
            return [file for file in (CONFIG, *PREPROCESSORS, weights, *parts) if file in present]
    others = [file for file in present if "/" not in file and file.endswith(SUFFIXES)]
    if len(others) != 1:
        raise UserError(
            f"{name} holds {len(others)} files that could be its weights, where {', '.join(WEIGHTS[1::2])} or one "
            "other should be; fetch the right file and name it."
        )
    return [file for file in (CONFIG, *PREPROCESSORS, *others) if file in present]


def _fetch_from_kaggle(name: str, handle: str) -> Path:
    import kagglehub
    import requests

    try:
        return Path(kagglehub.model_download(handle))
    except requests.ConnectionError as error:
        raise UserError(
            f"{name} cannot be fetched: Kaggle cannot be reached; with a network it is."
        ) from error
    except Exception as error:  # of the HTTP library and of Kaggle's own
        raise UserError(f"{name} cannot be fetched from Kaggle: {first_line(error)[:200]}.") from error
