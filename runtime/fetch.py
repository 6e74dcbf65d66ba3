"""Files of the table of names, on this machine: those that ship, and those that are fetched once, checked and kept.

What is kept is checked again whenever it is asked for, and needs no network. KERBSIDE_CACHE names the folder
(~/.cache/kerbside if not given); files of the Hugging Face Hub lie in huggingface_hub's own cache.
"""

import importlib
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from runtime.errors import UserError, first_line
from runtime.files import file_sha256, whole_file
from runtime.installation import model_file, shipped
from runtime.model_names import ROWS, File, misspelt

NAME = re.compile(r"[\w-]+")  # neither a suffix nor a folder
# hf://OWNER/NAME, then @REVISION and /FILE where they are wanted; a Path makes hf:/OWNER/NAME of it
HUB = re.compile(r"hf:/{1,2}([\w][\w.-]*/[\w][\w.-]*?)(?:@([\w.-]+))?(?:/([\w][\w.-]*))?")
SUMS = "SHA256SUMS"  # of a model repository that `kerbside push` made
MOST_BYTES = 2_000_000_000  # of a file whose size nobody says
MOST_SUMS = 100_000
TIMEOUT = 20.0  # seconds without an answer
CHUNK = 1 << 20
# What the Hub's refusals mean, by huggingface_hub's class, a special one before what it derives from.
REFUSALS = {
    "GatedRepoError": "{name} asks for its terms to be accepted on its page, and for your token in HF_TOKEN.",
    "RepositoryNotFoundError": "{name} is {here}no model on the Hub, or not for your token in HF_TOKEN.",
    "RevisionNotFoundError": "{name} has no such revision; leave @{revision} out for the latest.",
    "HFValidationError": "{name} is {here}no name that the Hub allows.",
}


def cache() -> Path:
    """Where fetched files and what is made of them is kept."""
    named = os.environ.get("KERBSIDE_CACHE")
    return (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kerbside"
    )


def is_hub(name: str) -> bool:
    """Whether this is hf://OWNER/NAME."""
    return HUB.fullmatch(name) is not None


def is_name(text: str) -> bool:
    """Whether this can be a name of the table, or one that is misspelt."""
    return NAME.fullmatch(text) is not None


def segmenter_file(path: str | os.PathLike[str]) -> Path:
    """The .tflite that a path, a name of the table or hf://OWNER/NAME stands for: a file of that path comes first, then
    what ships. UserError where a name is none, has no .tflite, or its file cannot be had."""
    text = os.fspath(path)
    if is_hub(text):
        return from_hub(text, ".tflite")
    found = model_file(path)
    if found.exists() or not is_name(text):
        return found
    row = ROWS.get(text)
    if row is None:
        near = misspelt(text)
        if near:
            raise near
        return found
    if row.tflite is None:
        raise UserError(
            f"{text} is a checkpoint without a .tflite: kerbside convert {text} --out {text}.weights.h5, then kerbside "
            f"export {text}.weights.h5, make one."
        )
    return fetched(row.tflite, text)


def place(file: File) -> Path:
    """Where a file of the table lies once it is here: models/FILE, or in the cache."""
    if "://" in file.source:
        return cache() / file.source.rpartition("/")[2]
    return shipped() / file.source


def fetched(file: File, name: str) -> Path:
    """The file of a row that ships or has an address, fetched if it is not here, its hash checked either way.

    UserError, one sentence, without a network, where the disk refuses, and where the hash is another.
    """
    path = place(file)
    if path.is_file():
        _check(path, file, name)
        return path
    if "://" not in file.source:
        raise UserError(
            f"{name} is not here: {file.source} lies in the repository, and not in what pip installs; take a checkout."
        )
    with whole_file(path) as part:
        _download(file, part, name)
        _check(part, file, name)
    return path


def _download(file: File, part: Path, name: str) -> None:
    most = file.bytes or MOST_BYTES
    try:
        with urllib.request.urlopen(file.source, timeout=TIMEOUT) as answer, part.open("wb") as out:
            while chunk := answer.read(CHUNK):
                most -= len(chunk)
                if most < 0:
                    raise UserError(f"{name} cannot be fetched: {file.source} is larger than it should be.")
                out.write(chunk)
    except urllib.error.HTTPError as error:
        raise UserError(f"{name} cannot be fetched: {file.source} answers {error.code}.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"{name} is not on this machine yet, and {file.source} cannot be reached ({first_line(error)[:100]}): with "
            "a network it is fetched once."
        ) from error


def _check(path: Path, file: File, name: str) -> None:
    found = file_sha256(path)
    if not found.startswith(file.sha256):
        raise UserError(
            f"{name} is not what it should be: the SHA-256 of {path.name} is {found[:12]}..., where "
            f"{file.sha256[:12]}... is expected; remove it, and it is fetched again, or update Kerbside."
        )


def from_hub(name: str, suffix: str) -> Path:
    """A file of hf://OWNER/NAME[@REVISION][/FILE], a repository that `kerbside push` made: the one that ends in
    `suffix`, its hash checked by the repository's SHA256SUMS; with a .weights.h5 comes its .json. Cached by
    huggingface_hub: without a network it is what was fetched before.

    UserError, one sentence, where huggingface_hub is not installed, the repository has no such file, or none is
    to be had.
    """
    match = HUB.fullmatch(name)
    if match is None:
        raise UserError(f"{name} is no model of the Hub: one is hf://OWNER/NAME.")
    sums = sums_of(_hub_file(name, match[1], SUMS, match[2]), name)
    chosen = [file for file in sums if file.endswith(suffix) and match[3] in (None, file)]
    if not chosen:
        raise UserError(f"{name} has no file that ends in {suffix}: it has {', '.join(sums)}.")
    if len(chosen) > 1:
        raise UserError(
            f"{name} has {', '.join(chosen)}: say which with hf://{match[1]}/{chosen[0]}, for instance."
        )
    wanted = [*chosen, chosen[0].removesuffix(suffix) + ".json"] if suffix != ".tflite" else chosen
    paths = []
    for file in wanted:
        if file not in sums:
            raise UserError(f"{name} lacks {file}, without which {chosen[0]} cannot be used.")
        path = _hub_file(name, match[1], file, match[2])
        _check(path, File(file, None, sums[file]), name)
        paths.append(path)
    return paths[0]


def sums_of(path: Path, name: str) -> dict[str, str]:
    """File -> SHA-256, as sha256sum prints them. UserError where a line is none or leads out of the repository."""
    if path.stat().st_size > MOST_SUMS:
        raise UserError(f"{name} has a {SUMS} of {path.stat().st_size} bytes, which is none.")
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = re.fullmatch(r"([0-9a-f]{64})  ([\w][\w.-]*)", line)
        if parts is None:
            raise UserError(f"{name} has a {SUMS} that is none: it holds {line[:60]!r}.")
        found[parts[2]] = parts[1]
    return found


def has_sums(name: str) -> bool:
    """Whether hf://OWNER/NAME is a repository that `kerbside push` made; without a network, one that was
    fetched before. UserError where there is none."""
    match = HUB.fullmatch(name)
    try:
        return bool(match and _hub_file(name, match[1], SUMS, match[2]))
    except (NoSuchFile, NoNetwork):
        return False


class NoNetwork(UserError):
    """The Hub does not answer, and the file was not fetched before."""


class NoSuchFile(UserError):
    """The repository is there, and the file is not."""


def _hub_file(name: str, repository: str, file: str, revision: str | None) -> Path:
    try:  # optional: [train] brings it, and a device does without
        huggingface_hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(
            f"{name} needs huggingface_hub, which is not installed here: pip install huggingface_hub"
        ) from error
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        return Path(
            huggingface_hub.hf_hub_download(repository, file, revision=revision, etag_timeout=TIMEOUT)
        )
    except errors.LocalEntryNotFoundError as error:
        raise no_network(name) from error
    except errors.EntryNotFoundError as error:
        raise NoSuchFile(f"{name} has no {file}: kerbside push made no repository of that name.") from error
    except Exception as error:  # of the HTTP library, which changes, and of sockets
        why = f"{name} cannot be fetched from the Hub: {first_line(error)[:200]}."
        raise refused(error, name, revision) or UserError(why) from error


def refused(error: Exception, name: str, revision: str | None) -> UserError | None:
    """What a refusal of the Hub means, one sentence; None where the error is no refusal. `name` is what the user wrote:
    hf://OWNER/NAME, or OWNER/NAME, which may have been meant for a file."""
    errors = importlib.import_module("huggingface_hub.errors")
    words = {
        "name": name,
        "here": "" if is_hub(name) else "no file or folder here and ",
        "revision": revision,
    }
    for kind, sentence in REFUSALS.items():
        if isinstance(error, getattr(errors, kind)):
            return UserError(sentence.format(**words))
    return None


def no_network(name: str) -> NoNetwork:
    """The sentence for a model that is not in the cache while the Hub does not answer."""
    endpoint = importlib.import_module("huggingface_hub").constants.ENDPOINT
    return NoNetwork(
        f"{name} is not on this machine yet, and the Hub at {endpoint} cannot be reached: with a network it is fetched "
        "once."
    )
