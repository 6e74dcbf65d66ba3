"""TensorFlow's coordination service: who has come, who is lost, and why somebody stops.

tf.distribute.MultiWorkerMirroredStrategy runs it on the chief, behind the port that TF_CONFIG names anyway. What
TensorFlow keeps private of it (tensorflow.python, as seen in 2.21) is named in this file only.
"""

import json
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager.context import context

from runtime.errors import UserError
from runtime.stderr import stderr_closed

LAST_WORDS_SECONDS = (
    60.0  # until the service misses a worker's heartbeats it takes 10 s, and longer under load
)
ASK_SECONDS = 0.5
FAREWELL_SECONDS = 2.0  # in which the others can still ask a chief that is about to end
LEAVE_SECONDS = 60.0
MOST_TOLD = 500  # characters of a sentence: with an error that TensorFlow passes on it travels several times
BEGIN, END = "[kerbside: ", " :kerbside]"
ADDRESSES = "addresses"
ANOTHER_CLUSTER = "its TF_CONFIG names another cluster than the chief's: every worker needs the same one"


class Known(UserError):
    """A sentence that every worker ends with, so that none has to tell it to another."""


def name(index: int) -> str:
    return f"worker {index}" if index else "the chief"


def start(addresses: Sequence[str], index: int, seconds: float) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy over all workers of TF_CONFIG, when they have come; UserError when one has not after `seconds`.

    To be called before TensorFlow runs its first operation.
    """
    jobs = _jobs()
    context().configure_coordination_service(
        "standalone",
        service_leader=f"/job:{next(iter(jobs))}/replica:0/task:0",
        cluster_register_timeout_in_ms=max(1, int(1000 * seconds)),
        coordinated_jobs=[CoordinatedJob(name=job, num_tasks=count) for job, count in jobs.items()],
    )
    context().coordination_service.cluster_register_with_barrier = True  # so that who does not come is named
    try:
        with _interruptible(), stderr_closed():  # a dozen lines of who has connected to whom
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        _refuse(error, addresses, index, seconds)
    _compare(addresses, index)
    return strategy


def _jobs() -> dict[str, int]:
    """How many workers each job of TF_CONFIG has, `chief` before `worker`."""
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    return {job: cluster.num_tasks(job) for job in sorted(cluster.jobs) if cluster.num_tasks(job)}


@contextmanager
def _interruptible() -> Iterator[None]:
    """TensorFlow waits without giving Python a turn, so Ctrl-C ends the process by itself meanwhile. Then it is an
    exception again, and SIGTERM one too, which TensorFlow's preemption notifier has taken for itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _refuse(error: tf.errors.OpError, addresses: Sequence[str], index: int, seconds: float) -> NoReturn:
    """What has kept the workers from coming together, as one sentence where a user can mend it."""
    own, chief = addresses[index], addresses[0]
    again = "start it with the same command and its own TF_CONFIG, or wait longer with --worker-timeout"
    if isinstance(error, tf.errors.UnknownError) and "gRPC server" in error.message:
        raise UserError(
            f"the port {own.rpartition(':')[2]} of {own} cannot be used: end what uses it, or write another one into "
            "every worker's TF_CONFIG"
        ) from None
    if isinstance(error, tf.errors.InvalidArgumentError):  # the chief's cluster has no such worker
        raise UserError(ANOTHER_CLUSTER) from None
    if isinstance(error, tf.errors.AlreadyExistsError):
        raise UserError(f"there is a worker {index} already: each needs its own index in TF_CONFIG") from None
    if isinstance(error, tf.errors.DeadlineExceededError):
        late = error.message.partition("timed out task names:")[2].partition("Additional")[0]
        tasks = re.findall(r"/job:(\w+)/(?:replica:0/)?task:(\d+)", late)
        missing = sorted(
            int(number) + (_jobs().get("chief", 0) if job == "worker" else 0) for job, number in tasks
        )
        if missing:
            listed = ", ".join(f"{number} ({addresses[number]})" for number in missing)
            raise UserError(f"worker {listed} did not come within {seconds:.0f} s: {again}") from None
        raise UserError(
            f"the chief at {chief} could not be reached within {seconds:.0f} s: {again}"
        ) from None
    raise error


def _compare(addresses: Sequence[str], index: int) -> None:
    """UserError where this worker knows other addresses than the chief: no collective might ever end."""
    if not index:
        context().set_config_key_value(ADDRESSES, json.dumps(addresses))
    elif context().get_config_key_value(ADDRESSES, int(1000 * LAST_WORDS_SECONDS)) != json.dumps(addresses):
        raise UserError(ANOTHER_CLUSTER)


def tell(sentence: str) -> None:
    """Tell the other workers why this one stops: what they do together fails from now on, with this sentence."""
    with suppress(tf.errors.OpError, ValueError):  # ValueError: the cluster has not come together
        context().report_error_to_cluster(tf.errors.ABORTED, f"{BEGIN}{sentence[:MOST_TOLD]}{END}")


def failed_together(error: BaseException) -> bool:
    """Whether it is another worker that has ended what all did together."""
    lost = tf.errors.UnavailableError | tf.errors.AbortedError | tf.errors.CancelledError
    return isinstance(error, lost) or (
        isinstance(error, tf.errors.OpError) and "Collective ops is aborted" in error.message
    )


def last_words(error: BaseException, chief: bool) -> str:
    """Which worker is lost, once the service has missed it. Raises Known when one has said why it stopped."""
    _heard(str(error))
    if isinstance(
        error, tf.errors.DeadlineExceededError
    ):  # of our heartbeats: a chief without power never answers
        return name(0)
    until = time.monotonic() + LAST_WORDS_SECONDS
    while time.monotonic() < until:
        try:
            states = context().get_task_states(list(_jobs().items()))
        except (tf.errors.OpError, ValueError):
            return name(0)  # where the service was
        for state in states:
            _heard(str(state))
        for number, state in enumerate(states):
            if state is not None:
                if chief:
                    time.sleep(FAREWELL_SECONDS)
                return name(number)
        time.sleep(ASK_SECONDS)
    return "a worker no longer answers"


def _heard(text: str) -> None:
    said = text.partition(BEGIN)[2].partition(END)
    if said[1]:
        raise Known(said[0])


def leave(chief: bool) -> None:
    """Wait until all are here, so that nobody's last exchange is cut off; of a chief that stops for another reason,
    until the others have heard it."""
    if context()._context_handle is None:  # no cluster has come together, and to wait would start one
        return
    try:
        context().wait_at_barrier("leave", int(1000 * LEAVE_SECONDS))
    except tf.errors.OpError:
        if chief:
            time.sleep(FAREWELL_SECONDS)
