"""The workers of one training run on several machines: who is there, what they agree on, who is gone.

All of it goes through TensorFlow: tf.distribute.MultiWorkerMirroredStrategy trains, its collectives carry what is small
too (facts, counts, whether somebody asks to stop, the state of a resumed run), and its coordination service, in
coordination.py, knows who has come, who is lost and what a worker says when it stops. Nothing here opens a port.
"""

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from runtime import strict_json
from runtime.errors import UserError
from training.start_tensorflow import start_tensorflow

GROUP = 1 << 30  # of our collectives; the strategy counts its groups from 1
PIECE = 1 << 26  # bytes of one broadcast: a message has to stay below 2 GB
STARTED_OVER = "KERBSIDE_STARTED_OVER"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """The workers of a run and this one's place among them; one process alone has no strategy of a cluster."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0
    strategy: Any = None  # tf.distribute.MultiWorkerMirroredStrategy
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of what is done together

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def chief(self) -> bool:
        """Whether this worker is the one that writes."""
        return self.index == 0

    def exchange(self, value: Any) -> list[Any]:
        """Every worker's value, in the order of the workers; all have to call it. A value is what JSON can hold:
        floats keep every bit."""
        if self.size == 1:
            return [value]
        content = json.dumps([self.index, value]).encode()
        longest = int(self._gather([len(content)]).max())
        rows = self._gather(_words(content.ljust(longest)))
        found = [strict_json.parse(row.tobytes(), row.nbytes, nan=True) for row in rows]
        return [theirs for _, theirs in sorted(found, key=itemgetter(0))]

    def any(self, *values: object) -> list[bool]:
        """Of each value, whether any worker says so."""
        flags = [bool(value) for value in values]
        return flags if self.size == 1 else [bool(column.any()) for column in self._gather(flags).T]

    def interleaved(self, mine: list[Any]) -> list[Any]:
        """All workers' items in one order, where this one has items index, index + size, index + 2 size, ..."""
        parts = self.exchange(mine)
        items = [None] * sum(map(len, parts))
        for number, part in enumerate(parts):
            items[number :: self.size] = part
        return items

    def share(self, content: bytes = b"") -> bytes:
        """The chief's `content`, on every worker."""
        length = self.exchange(len(content))[0]
        received = b"".join(
            self._broadcast(content[start : start + PIECE], min(PIECE, length - start))
            for start in range(0, length, PIECE)
        )
        return content if self.chief else received

    def _gather(self, row: Any) -> np.ndarray:
        """Everybody's row of int32 (N), below each other: (workers, N), in no certain order."""
        import tensorflow as tf

        with tf.device("CPU:0"):  # where NCCL plays no part
            gathered: np.ndarray = tf.raw_ops.CollectiveGatherV2(
                input=np.array([row], np.int32),
                group_size=self.size,
                group_key=GROUP,
                instance_key=next(self.numbers),
                ordering_token=[],
                communication_hint="ring",
            ).numpy()
        return gathered

    def _broadcast(self, piece: bytes, length: int) -> bytes:
        """The chief's piece of so many bytes, to those who do not have it."""
        import tensorflow as tf

        place = {"group_size": self.size, "group_key": GROUP, "instance_key": next(self.numbers)}
        with tf.device("CPU:0"):
            if self.chief:
                tf.raw_ops.CollectiveBcastSendV2(input=_words(piece), communication_hint="ring", **place)
                return b""
            words = tf.raw_ops.CollectiveBcastRecvV2(
                T=tf.int32, shape=[-(-length // 4)], communication_hint="ring", **place
            )
        content: bytes = words.numpy().tobytes()[:length]
        return content


ALONE = Cluster()


def _words(content: bytes) -> np.ndarray:
    """Bytes as the int32 that collectives can carry, the last padded with spaces."""
    return np.frombuffer(content.ljust(-(-len(content) // 4) * 4), np.int32)


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
    say(f"worker {index} of {len(addresses)}: waiting up to {seconds:.0f} s for the others.")
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # its own lines on a lost worker would bury our sentence
    start_tensorflow(devices=False)
    from training.distributed import coordination

    try:
        yield Cluster(addresses, index, coordination.start(addresses, index, seconds))
    except coordination.Known:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if coordination.failed_together(error):
            _start_over(coordination.last_words(error, index == 0), say)
        coordination.tell(f"{coordination.name(index)} {_ended(error)}")
        raise
    finally:
        coordination.leave(index == 0)


def _ended(error: BaseException) -> str:
    if isinstance(error, UserError):
        return f"stopped: {error}"
    return "was interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {type(error).__name__}"


def agree(cluster: Cluster, what: str, facts: Mapping[str, Any]) -> None:
    """UserError, the same on every worker, when one has other facts than the chief, naming worker and facts."""
    from training.distributed.coordination import Known

    everybody = cluster.exchange(dict(facts))
    for number, theirs in enumerate(everybody):
        different = [key for key in {**everybody[0], **theirs} if everybody[0].get(key) != theirs.get(key)]
        if different:
            listed = "; ".join(
                f"{key.replace('_', ' ')} ({theirs.get(key)} there, {everybody[0].get(key)} on the chief)"
                for key in different
            )
            raise Known(
                f"worker {number} has another {what} than the chief, which differs in {listed}: "
                "start every worker with the same command, version and data"
            )


def versions() -> dict[str, Any]:
    """What decides beside recipe and data what a run computes: TensorFlow, Keras, and the files of this program."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in ("drawing", "evaluation", "runtime", "training", "zoo"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    packages = {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return {**packages, "sources": digest.hexdigest()[:12]}


def fingerprint(images: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A split, by its names and checksums, in three facts: how many images, which, and what they hold."""
    parts = {"names": [name for name, _ in images], "content": [checksums for _, checksums in images]}
    hashes = {key: hashlib.sha256("\n".join(part).encode()).hexdigest() for key, part in parts.items()}
    return {"images": len(images), **{key: digest[:12] for key, digest in hashes.items()}}


def _start_over(lost: str, say: Say) -> NoReturn:
    """Become a new process with the same command. TensorFlow cannot leave a broken cluster in any other way."""
    say(f"a worker is lost ({lost}); starting over from the last checkpoint when it is back.")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, STARTED_OVER: "1"})


def started_over() -> bool:
    """Whether this process took the place of one that lost another worker: it must not throw the run away."""
    return STARTED_OVER in os.environ
