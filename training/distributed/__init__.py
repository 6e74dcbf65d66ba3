"""The workers of one training run on several machines: who is there, what they agree on, who is gone.

TensorFlow moves the tensors (tf.distribute.MultiWorkerMirroredStrategy). What is small or comes before TensorFlow
starts goes through one TCP connection between the chief (worker 0) and each other worker: that all have one recipe,
one data set and one version, whether somebody asks to stop, the counts of the validation, the state of a resumed run.
The chief waits for the connections at its own address in TF_CONFIG, then leaves the port to TensorFlow; the
connections stay, and a worker that dies closes its own. Messages are JSON and arrays, never pickled objects.
"""

import hashlib
import os
import select
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from runtime import strict_json
from runtime.errors import UserError
from training.distributed.rendezvous import (
    PeerLost,
    Say,
    connections,
    drain,
    receive,
    receive_bytes,
    send,
    send_bytes,
)

if TYPE_CHECKING:
    from training.data.pipeline import DecodedCache

LAST_WORDS_SECONDS = 60.0  # the chief may take a while to notice that TensorFlow has lost a worker
FAREWELL_SECONDS = 2.0
COMPARED_IMAGES = 8
STARTED_OVER = "KERBSIDE_STARTED_OVER"


class PeerStopped(UserError):
    """Another worker has ended with this sentence."""


@dataclass(frozen=True)
class Cluster:
    """The workers of a run and this one's place among them. `links` are the chief's connections to workers 1, 2, ...
    in their order, or a worker's one connection to the chief; one process alone has none."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0
    links: tuple[socket.socket, ...] = ()

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def chief(self) -> bool:
        """Whether this worker is the one that writes."""
        return self.index == 0

    def exchange(self, value: Any) -> list[Any]:
        """Every worker's value, in the order of the workers; all have to call it. A value is what JSON can hold:
        floats keep every bit. Raises PeerLost, or UserError when another worker has stopped with a sentence."""
        if self.size == 1:
            return [value]
        if not self.chief:
            if select.select(self.links, [], [], 0)[
                0
            ]:  # before anything is asked, only a farewell can be there
                self._heard(self.links[0])
            send(self.links[0], {"value": value})
            return self._heard(self.links[0])["values"]
        found, waiting = {}, list(self.links)
        while waiting:  # whoever comes first, so that a lost worker is noticed while another is slow
            for link in select.select(waiting, [], [])[0]:
                found[link] = self._heard(link)["value"]
                waiting.remove(link)
        values = [value, *(found[link] for link in self.links)]
        for link in self.links:
            send(link, {"values": values})
        return values

    def any(self, value: object) -> bool:
        """Whether any worker says so."""
        return any(self.exchange(bool(value)))

    def interleaved(self, mine: list[Any]) -> list[Any]:
        """All workers' items in one order, where this one has items index, index + size, index + 2 size, ..."""
        parts = self.exchange(mine)
        items = [None] * sum(map(len, parts))
        for number, part in enumerate(parts):
            items[number :: self.size] = part
        return items

    def share(self, content: bytes = b"") -> bytes:
        """The chief's `content`, on every worker."""
        if self.chief:
            for link in self.links:
                send(link, {"bytes": len(content)})
                send_bytes(link, content)
            return content
        self._heard(self.links[0])
        return receive_bytes(self.links[0])

    def _heard(self, link: socket.socket) -> dict[str, Any]:
        try:
            message = receive(link)
        except PeerLost as lost:
            raise PeerLost(f"{_name(self.links.index(link) + 1 if self.chief else 0)}: {lost}") from lost
        if "stopped" in message:
            raise PeerStopped(message["stopped"])
        return message

    def farewell(self, sentence: str) -> None:
        """Tell the other workers why this one stops, so that they stop too, with the same sentence."""
        for link in self.links:
            with suppress(PeerLost, OSError):
                send(link, {"stopped": sentence})
                link.shutdown(socket.SHUT_WR)
        # To close a connection whose last message lies unread at this end would take back our own last message.
        for link in self.links:
            drain(link, FAREWELL_SECONDS)


ALONE = Cluster()


def from_environment(text: str | None) -> tuple[tuple[str, ...], int] | None:
    """TF_CONFIG -> (addresses, index); None when it is not set or names one worker only.

    {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; the first of the jobs `chief`
    and `worker` is the chief. UserError when it is anything else.
    """
    if not text:
        return None
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        content = strict_json.parse(text)
        strict_json.checked(content, {"cluster": dict[str, list[str]], "task": dict[str, Any]})
        jobs, task = content["cluster"], content["task"]
        strict_json.checked(task, {"type": str, "index": int | str})
        strange = sorted(set(jobs) - {"chief", "worker"})
        chiefs = jobs.get("chief", [])
        addresses = (*chiefs, *jobs.get("worker", []))
        kind, index = task["type"], int(task["index"])
    except ValueError as error:
        raise UserError(f"TF_CONFIG cannot be read ({error}): it must be JSON such as {example}") from None
    if strange or kind not in jobs:
        what = ", ".join(strange) or repr(kind)
        raise UserError(
            f"TF_CONFIG names the job {what}: the workers are all of the job worker, as in {example}"
        )
    if not 0 <= index < len(jobs[kind]):
        raise UserError(
            f"TF_CONFIG has the index {index}, but its cluster has {len(jobs[kind])} of the job {kind}: "
            f"it must lie in 0 to {len(jobs[kind]) - 1}"
        )
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UserError(
                f"TF_CONFIG has the address '{address}': it must be HOST:PORT, such as host0:2222"
            )
    if len(set(addresses)) < len(addresses):
        raise UserError("TF_CONFIG names an address twice: each worker needs its own")
    if len(addresses) == 1:
        return None
    return addresses, index + (len(chiefs) if kind == "worker" else 0)


@contextmanager
def joined(text: str | None, *, seconds: float, say: Say = print) -> Iterator[Cluster]:
    """The cluster that TF_CONFIG, `text`, describes, once all its workers are here; ALONE without one.

    Whatever ends the block with an error is told to the other workers, which end with the same sentence. When another
    worker is lost without a word, this process starts itself over with the same command, which waits up to `seconds`
    for the lost one to be started again, and goes on from the last checkpoint.
    """
    place = from_environment(text)
    if place is None:
        yield ALONE
        return
    addresses, index = place
    cluster = Cluster(addresses, index, connections(addresses, index, seconds, say))
    try:
        yield cluster
    except PeerStopped as stopped:
        cluster.farewell(str(stopped))  # the chief tells those who have no connection to each other
        raise
    except UserError as error:
        cluster.farewell(f"{_name(cluster.index)} stopped: {error}")
        raise
    except KeyboardInterrupt:
        cluster.farewell(f"{_name(cluster.index)} was interrupted")
        raise
    except PeerLost as lost:
        _start_over(cluster, str(lost), say)
    except Exception as error:
        if not _collective_failed(error):
            cluster.farewell(f"{_name(cluster.index)} failed: {type(error).__name__}")
            raise
        _start_over(cluster, _last_words(cluster), say)
    finally:
        for link in cluster.links:
            link.close()


def agree(cluster: Cluster, what: str, facts: Mapping[str, Any]) -> None:
    """UserError, the same on every worker, when one has other facts than the chief, naming worker and facts."""
    everybody = cluster.exchange(dict(facts))
    for number, theirs in enumerate(everybody):
        different = [key for key in {**everybody[0], **theirs} if everybody[0].get(key) != theirs.get(key)]
        if different:
            listed = "; ".join(
                f"{key.replace('_', ' ')} ({theirs.get(key)} there, {everybody[0].get(key)} on the chief)"
                for key in different
            )
            raise UserError(
                f"worker {number} has another {what} than the chief, which differs in {listed}: "
                "start every worker with the same command, version and data"
            )


def versions() -> dict[str, Any]:
    """What decides beside recipe and data what a run computes: TensorFlow, Keras, and the files of this program."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for room in ("runtime", "training", "zoo"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    packages = {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return {**packages, "sources": digest.hexdigest()[:12]}


def fingerprint(images: "DecodedCache") -> dict[str, Any]:
    """A split in three facts: how many images, their names, and what a few of them hold."""
    names, content = hashlib.sha256(), hashlib.sha256()
    for example in images.examples:
        names.update(example.name.encode() + b"\n")
    for index in np.linspace(0, len(images.examples) - 1, COMPARED_IMAGES).astype(int):
        for array in images.read(int(index)):
            content.update(array.tobytes())
    return {
        "pictures": len(images.examples),
        "names": names.hexdigest()[:12],
        "content": content.hexdigest()[:12],
    }


def _collective_failed(error: Exception) -> bool:
    """Whether TensorFlow lost a worker in the middle of an all-reduce."""
    if "tensorflow" not in sys.modules:
        return False
    from tensorflow import errors

    return isinstance(error, errors.UnavailableError | errors.AbortedError | errors.CancelledError)


def _last_words(cluster: Cluster) -> str:
    """What is known of a worker that TensorFlow has lost; UserError when it has said itself why it stopped."""
    for link in select.select(cluster.links, [], [], LAST_WORDS_SECONDS)[0]:
        try:
            cluster._heard(link)
        except PeerLost as lost:
            return str(lost)
    return "a worker no longer answers"


def _start_over(cluster: Cluster, reason: str, say: Say) -> NoReturn:
    """Become a new process with the same command. TensorFlow cannot leave a broken cluster in any other way."""
    say(f"a worker is lost ({reason}); starting over from the last checkpoint when it is back.")
    sys.stdout.flush()
    sys.stderr.flush()
    for link in cluster.links:
        link.close()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, STARTED_OVER: "1"})


def started_over() -> bool:
    """Whether this process took the place of one that lost another worker: it must not throw the run away."""
    return STARTED_OVER in os.environ


def _name(index: int) -> str:
    return f"worker {index}" if index else "the chief"
