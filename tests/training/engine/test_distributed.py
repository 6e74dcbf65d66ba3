"""Several workers: who they are, what they agree on, that they do what one process does, and that one may die.

Every worker is a real process on this machine. The machine may be busy: no test waits for a time, only for events.
"""

import csv
import json
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests.tiny import assert_refused, command, environment, write_camvid
from tests.tiny_training import examples
from training import distributed
from training.data.augmentation import Augmentation
from training.data.pipeline import DecodedCache, epoch_order, evaluation_batches, training_batches
from training.distributed import coordination

# Seconds that the processes of a test may take: a busy machine needs most of a minute to import TensorFlow.
PATIENCE = 800.0
pytestmark = pytest.mark.timeout(3600)  # PATIENCE is what ends a test
STEPS, EPOCHS = 5, 6  # an epoch, of 22 images in batches of 4; in all 30 steps


def free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("localhost", 0))
    addresses = [f"localhost:{opened.getsockname()[1]}" for opened in sockets]
    for opened in sockets:
        opened.close()
    return addresses


def tf_config(addresses: list[str], index: int) -> str:
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


# ---- what TF_CONFIG says


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not JSON", ("TF_CONFIG cannot be read", "it must be JSON such as")),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', ("TF_CONFIG cannot be read", "task")),
        (tf_config(["a:1", "b:1"], 2), ("index 2", "0 to 1")),
        (tf_config(["a:1", "b:1"], -1), ("index -1", "0 to 1")),
        (tf_config(["a:1", "b"], 0), ("'b'", "HOST:PORT")),
        (tf_config(["a:1", "a:1"], 0), ("names an address twice",)),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "ps", "index": 0}}', ("job ps",)),
        ('{"cluster": {"worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}', ("job 'chief'",)),
    ],
)
def test_a_wrong_tf_config_is_answered_in_a_sentence(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as raised:
        distributed.from_environment(text)
    assert all(word in str(raised.value) for word in words), raised.value


def test_who_is_who() -> None:
    assert distributed.from_environment(None) is None
    assert distributed.from_environment(tf_config(["a:1"], 0)) is None  # one worker is no cluster
    assert distributed.from_environment(tf_config(["a:1", "b:2"], 1)) == (("a:1", "b:2"), 1)
    jobs = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    for task, index in (("chief", 0), ("worker", 2)):
        text = json.dumps({"cluster": jobs, "task": {"type": task, "index": max(0, index - 1)}})
        assert distributed.from_environment(text) == (("a:1", "b:2", "c:3"), index)


# ---- how they find each other and what they agree on


class Told(distributed.Cluster):
    """A chief that hears what `others` say."""

    others: tuple[Any, ...] = ()

    def exchange(self, value: Any) -> list[Any]:
        return [value, *self.others]


def test_worker_and_field_that_differ_are_named() -> None:
    cluster, facts = Told(("a:1", "b:2", "c:3")), {"batch": 8, "learning_rate": 0.1}
    Told.others = (facts, facts)
    distributed.agree(cluster, "recipe", facts)
    Told.others = (facts, {**facts, "learning_rate": 0.2})
    with pytest.raises(UserError) as raised:
        distributed.agree(cluster, "recipe", facts)
    assert str(raised.value) == (
        "worker 2 has another recipe than the chief, which differs in learning rate (0.2 there, 0.1 on the chief): "
        "start every worker with the same command, version and data"
    )


def test_versions_know_every_file_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    before = distributed.versions()
    assert distributed.versions() == before and {"tensorflow", "keras", "numpy", "sources"} == set(before)
    read = Path.read_bytes
    for changed in ("zoo/fcn.py", "training/engine/loop.py", "runtime/errors.py", "evaluation/metrics.py"):
        monkeypatch.setattr(
            Path, "read_bytes", lambda path, end=changed: read(path) + b"#" * path.as_posix().endswith(end)
        )
        assert distributed.versions()["sources"] != before["sources"], changed


def test_a_split_is_known_by_its_names_and_by_what_its_images_hold() -> None:
    images = [("a", "1-2"), ("b", "3-4")]
    known = distributed.fingerprint(images)
    assert known["images"] == 2
    for other in ([("a", "1-2"), ("b", "3-5")], [("a", "1-2"), ("c", "3-4")], images[::-1], images[:1]):
        assert distributed.fingerprint(other) != known


def test_a_sentence_is_found_in_what_tensorflow_makes_of_it() -> None:
    """As it was seen: twice, each time with words around it."""
    said = f"{coordination.BEGIN}worker 1 stopped: straße.png does not exist{coordination.END}"
    error = tf.errors.AbortedError(
        None,
        None,
        f"Collective ops is aborted by: {said}\n:UNKNOWN:Error received from peer  {{grpc_message:{said}}}",
    )
    with pytest.raises(coordination.Known) as raised:
        coordination.last_words(error, chief=True)
    assert str(raised.value) == "worker 1 stopped: straße.png does not exist"


class Talk:
    """Workers of tests/distributed_talk.py, a process for each of `configs`."""

    def __init__(self, work: str, configs: list[str], seconds: float = PATIENCE, **variables: str) -> None:
        self.processes = [
            subprocess.Popen(
                command("tests.distributed_talk", work, str(seconds)),
                env={**quiet_environment(config), **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for config in configs
        ]

    def ended(self) -> list[subprocess.CompletedProcess[str]]:
        try:
            spoken = [process.communicate(timeout=PATIENCE) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [
            subprocess.CompletedProcess(process.args, process.returncode, *texts)
            for process, texts in zip(self.processes, spoken, strict=True)
        ]


def together(count: int, work: str, **variables: str) -> list[subprocess.CompletedProcess[str]]:
    addresses = free_addresses(count)
    return Talk(work, [tf_config(addresses, index) for index in range(count)], **variables).ended()


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one with which a worker has ended."""
    assert_refused(done)
    return done.stderr.rpartition("error: ")[2].strip()


@pytest.mark.slow
def test_everybody_hears_everybody_in_order_and_only_the_port_of_tf_config_is_open() -> None:
    addresses = free_addresses(3)
    expected = [[index, 0.1 + index / 3, "ü" * index] for index in range(3)]
    talk = Talk("hear", [tf_config(addresses, index) for index in range(3)])
    for address, done in zip(addresses, talk.ended(), strict=True):
        assert done.returncode == 0, done.stderr[-3000:]
        ports = [int(address.partition(":")[2])]
        found = json.loads(done.stdout.splitlines()[-1])
        assert found == [expected, [True, False, True], True, True, [0, 1, 2, 0, 1, 2, 0], ports]


@pytest.mark.slow
def test_other_facts_than_the_chief_s_end_every_worker_with_the_same_sentence() -> None:
    (told,) = {sentence(done) for done in together(3, "disagree")}
    for part in ("worker 2 has another recipe than the chief", "learning rate (0.2 there, 0.1 on the chief)"):
        assert part in told
    assert "batch" not in told


@pytest.mark.slow
@pytest.mark.parametrize("unlucky", [0, 1, 2])
def test_the_sentence_that_ends_one_worker_ends_them_all(unlucky: int) -> None:
    told = f"{'worker ' * bool(unlucky)}{unlucky or 'the chief'} stopped: street_7.png does not exist"
    done = together(3, "stop", KERBSIDE_UNLUCKY=f"{unlucky} sentence")
    expected = ["street_7.png does not exist" if index == unlucky else told for index in range(3)]
    assert [sentence(worker) for worker in done] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("error", 1, "failed: ZeroDivisionError"),
        ("SIGTERM", 130, "was interrupted"),
        ("SIGINT", 130, "was interrupted"),
    ],
)
def test_a_worker_that_fails_or_is_stopped_between_steps_ends_the_others(
    how: str, code: int, words: str
) -> None:
    chief, worker = together(2, "stop", KERBSIDE_UNLUCKY=f"1 {how}")
    assert sentence(chief) == f"worker 1 {words}"
    assert worker.returncode == code, worker.stderr[-3000:]


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named_after_the_time_that_was_said() -> None:
    addresses = free_addresses(3)
    again = "start it with the same command and its own TF_CONFIG, or wait longer with --worker-timeout"
    for done in Talk("hear", [tf_config(addresses, index) for index in (0, 1)], seconds=20.0).ended():
        assert sentence(done) == f"worker 2 ({addresses[2]}) did not come within 20 s: {again}"
    (alone,) = Talk("hear", [tf_config(addresses, 1)], seconds=1.0).ended()
    assert sentence(alone) == f"the chief at {addresses[0]} could not be reached within 1 s: {again}"


@pytest.mark.slow
def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        (done,) = Talk("hear", [tf_config([f"localhost:{port}", "localhost:1"], 0)]).ended()
    assert_refused(done, f"the port {port}", "every worker's TF_CONFIG")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_a_worker_of_another_cluster_ends_all_with_that_sentence(count: int) -> None:
    """It has another address for itself, or thinks that there is one more worker."""
    addresses = free_addresses(3)
    other = tf_config([addresses[0], addresses[2], addresses[1]][:count], 1 if count == 2 else 2)
    configs = [tf_config(addresses[:2], 0), other]
    *_, done = Talk("hear", configs, seconds=40.0).ended()
    assert_refused(done, "its TF_CONFIG names another cluster than the chief's")


@pytest.mark.slow
def test_where_two_workers_have_one_index_the_index_that_nobody_has_is_named() -> None:
    """On two machines; here the second of them needs a port of its own."""
    addresses = free_addresses(4)
    known, other = addresses[:3], [addresses[0], addresses[3], addresses[2]]
    configs = [tf_config(known, 0), tf_config(known, 1), tf_config(other, 1)]
    chief, *both = Talk("hear", configs, seconds=25.0).ended()
    assert sentence(chief).startswith(f"worker 2 ({addresses[2]}) did not come within 25 s")
    assert all(sentence(done) for done in both)


@pytest.mark.slow
def test_strangers_at_the_port_are_sent_away_and_the_workers_still_meet() -> None:
    addresses = free_addresses(2)
    first = Talk("hear", [tf_config(addresses, 0)])
    host, port = addresses[0].split(":")
    for greeting in (b"kerbside worker 1\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000, b""):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and first.processes[0].poll() is None:
            with suppress(OSError), socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(greeting)
                break
            time.sleep(0.05)
    second = Talk("hear", [tf_config(addresses, 1)])
    for done in [*second.ended(), *first.ended()]:
        assert done.returncode == 0, done.stderr[-3000:]


# ---- who reads which sample


def rows(batches: Any, count: int) -> np.ndarray:
    return np.concatenate([images.numpy() for images, _ in batches.take(count)])


def test_each_worker_reads_its_own_samples_and_together_they_are_the_batch() -> None:
    """Two workers of two devices against one device: the same samples with the same augmentation, each once."""
    read: dict[int, list[int]] = {}

    def watched(worker: int) -> DecodedCache:
        cache = DecodedCache(examples(22, 0))
        original = cache.read
        cache.read = lambda index: (read.setdefault(worker, []).append(index), original(index))[1]  # type: ignore
        return cache

    def batches(worker: int, replicas: tuple[int, int, int]) -> Any:
        cache = watched(worker)
        return training_batches(
            cache.examples, seed=3, batch=4, crop=(32, 32), augmentation=Augmentation(), start_step=2,
            cache=cache, replicas=replicas, workers=1,
        )  # fmt: skip

    whole = rows(batches(9, (0, 1, 1)), 3)
    parts = [rows(batches(worker, (2 * worker, 2, 4)), 6).reshape(3, 2, 32, 32, 3) for worker in (0, 1)]
    assert np.array_equal(whole, np.concatenate(parts, axis=1).reshape(whole.shape))
    # Steps 2, 3 and 4 are the rest of the first epoch of 5 steps; what follows was read ahead.
    order = epoch_order(3, 0, examples(22, 0), 4).reshape(5, 2, 2)[2:]
    for worker in (0, 1):
        assert read[worker][:6] == order[:, worker].ravel().tolist()
    assert len({*read[0][:6], *read[1][:6]}) == 12


def test_validation_images_are_shared_out_once_each() -> None:
    shown = [
        [int(index) for index, _, _ in evaluation_batches(examples(5, 1), indices=range(worker, 5, 7))]
        for worker in range(7)
    ]
    assert shown == [[0], [1], [2], [3], [4], [], []]


# ---- whole runs, in processes of their own


class Workers:
    """`count` workers of one run in `folder`, one process each; without a cluster if it is one."""

    def __init__(
        self, folder: Path, name: str, count: int, changes: dict[str, Any], *others: dict[str, Any]
    ) -> None:
        self.folder, self.name, self.configs = folder, name, [""]
        if count > 1:
            addresses = free_addresses(count)
            self.configs = [tf_config(addresses, index) for index in range(count)]
        self.changes = [*others, *[changes] * count][:count]
        self.processes = [self.start(index) for index in range(count)]

    def start(self, index: int) -> subprocess.Popen[bytes]:
        run = [self.name, json.dumps(self.changes[index])]
        with open(self.folder / f"{self.name}-{index}.txt", "ab") as output:
            return subprocess.Popen(
                command("tests.distributed_worker", *run),
                cwd=self.folder,
                env=quiet_environment(self.configs[index]),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self, index: int) -> str:
        return (self.folder / f"{self.name}-{index}.txt").read_text(encoding="utf-8")

    def wait(self) -> list[int]:
        """The exit codes, when all have ended."""
        until = time.monotonic() + PATIENCE
        try:
            codes = [process.wait(max(1.0, until - time.monotonic())) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return codes

    def wait_for_step(self, step: int) -> None:
        until = time.monotonic() + PATIENCE
        while not any(
            int(path.stem.split("-")[1]) >= step for path in self.run.glob("checkpoints/step-*.checkpoint")
        ):
            ended = [process.poll() for process in self.processes]
            assert time.monotonic() < until and ended == [None] * len(ended), self.output(0)[-3000:]
            time.sleep(0.05)

    @property
    def run(self) -> Path:
        return self.folder / self.name

    def losses(self) -> np.ndarray:
        return np.array(json.loads((self.run / "losses.json").read_text(encoding="utf-8")))

    def history(self) -> np.ndarray:
        with open(self.run / "history.csv", encoding="utf-8") as file:
            return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def quiet_environment(config: str) -> dict[str, str]:
    """One thread a worker: two cores are what there may be. `config` is its TF_CONFIG."""
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    return {**environment(), **threads, **({"TF_CONFIG": config} if config else {})}


def assert_alike(one: Workers, other: Workers) -> None:
    """The same run but for the order in which floats are summed."""
    assert len(one.losses()) == STEPS * EPOCHS
    assert one.losses()[-1] < 0.5 * one.losses()[0]
    np.testing.assert_allclose(other.losses(), one.losses(), rtol=2e-4)
    np.testing.assert_allclose(other.history(), one.history(), rtol=1e-3, atol=1e-6)


def test_two_workers_train_as_one_process_does(tmp_path: Path) -> None:
    """30 steps with BatchNorm, augmentation and parts that weigh unequally, and the scores of six validations."""
    two = Workers(tmp_path, "two", 2, {})
    one = Workers(tmp_path, "one", 1, {})
    assert one.wait() + two.wait() == [0, 0, 0], two.output(0)[-3000:] + two.output(1)[-3000:]
    assert_alike(one, two)
    assert "epoch" not in two.output(1)  # the chief alone reports and writes
    assert {path.name for path in two.run.iterdir()} == {
        "best.sha256", "best.weights.h5", "checkpoints", "history.csv", "losses.json", "previews",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"norm": False}, {"accumulate": 2, "norm": False}, {"precision": "mixed_bfloat16"}], ids=str
)
def test_two_workers_without_batch_norm_in_parts_and_in_bfloat16(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    two, one = Workers(tmp_path, "two", 2, changes), Workers(tmp_path, "one", 1, changes)
    assert one.wait() + two.wait() == [0, 0, 0], two.output(0)[-3000:]
    if "precision" in changes:  # 8 bits of mantissa: the first steps are the same, the rest is close
        np.testing.assert_allclose(two.losses()[:3], one.losses()[:3], rtol=0.02)
        np.testing.assert_allclose(two.losses(), one.losses(), rtol=0.2)
    else:
        assert_alike(one, two)


@pytest.mark.slow
def test_devices_of_one_machine_train_as_one_device_does(tmp_path: Path) -> None:
    """tf.distribute.MirroredStrategy over two devices, by the same loop."""
    two, one = Workers(tmp_path, "two", 1, {"devices": 2}), Workers(tmp_path, "one", 1, {})
    assert one.wait() + two.wait() == [0, 0], two.output(0)[-3000:]
    assert_alike(one, two)


def assert_same_bits(one: Workers, other: Workers) -> None:
    name = f"checkpoints/step-{STEPS * EPOCHS:08d}.checkpoint"
    for path in ("history.csv", name):
        assert (one.run / path).read_bytes() == (other.run / path).read_bytes(), path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workers:
    workers = Workers(tmp_path_factory.mktemp("undisturbed"), "straight", 2, {})
    assert workers.wait() == [0, 0], workers.output(0)[-3000:]
    return workers


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "freezes"), [(0, False), (1, False), (0, True)])
def test_a_worker_is_killed_and_started_again_and_the_run_is_the_same_to_the_bit(
    tmp_path: Path, undisturbed: Workers, victim: int, freezes: bool
) -> None:
    """Or it freezes before, like a machine without power: its connections stay open, and heartbeats alone tell."""
    workers = Workers(tmp_path, "killed", 2, {"pause": 0.4})
    workers.wait_for_step(2 * STEPS)
    if freezes:
        workers.processes[victim].send_signal(signal.SIGSTOP)
        until = time.monotonic() + PATIENCE
        while "a worker is lost" not in workers.output(1 - victim):
            assert time.monotonic() < until
            time.sleep(0.2)
    workers.processes[victim].kill()
    workers.processes[victim].wait()
    assert not (workers.run / f"checkpoints/step-{STEPS * EPOCHS:08d}.checkpoint").exists()
    workers.processes[victim] = workers.start(victim)
    assert workers.wait() == [0, 0], workers.output(1 - victim)[-3000:]
    lost = "worker 1" if victim else "the chief"
    assert f"a worker is lost ({lost}" in workers.output(1 - victim)
    assert "Traceback" not in workers.output(1 - victim)
    assert "going on from step" in workers.output(0)
    assert_same_bits(undisturbed, workers)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_worker_stops_all_and_the_run_goes_on_to_the_same_bits(
    tmp_path: Path, undisturbed: Workers, number: signal.Signals
) -> None:
    workers = Workers(tmp_path, "stopped", 2, {"pause": 0.4})
    workers.wait_for_step(STEPS)
    workers.processes[1].send_signal(number)
    assert workers.wait() == [130, 130], workers.output(0)[-3000:]
    assert "the same command goes on" in workers.output(0) and "Traceback" not in workers.output(0)
    assert not (workers.run / f"checkpoints/step-{STEPS * EPOCHS:08d}.checkpoint").exists()
    workers.processes = [workers.start(index) for index in (0, 1)]
    assert workers.wait() == [0, 0], workers.output(0)[-3000:]
    assert_same_bits(undisturbed, workers)


# ---- the command itself


def commands(folder: Path, *arguments: list[str]) -> list[subprocess.CompletedProcess[str]]:
    """training.train with TF_CONFIG, one worker for each list of arguments."""
    addresses = free_addresses(len(arguments))
    common = ["unet", "--backbone", "", "--set", "depth=2", "base_filters=4", "--data", "camvid", "--epochs", "1",
              "--crop", "32x32", "--batch", "2", "--name", "run", "--worker-timeout", str(PATIENCE)]  # fmt: skip
    processes = [
        subprocess.Popen(
            command("training.train", *common, *own),
            cwd=folder,
            env=quiet_environment(tf_config(addresses, index)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, own in enumerate(arguments)
    ]
    try:
        spoken = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(processes, spoken, strict=True)
    ]


@pytest.mark.slow
def test_the_command_refuses_another_recipe_other_data_and_a_batch_that_cannot_be_shared(
    tmp_path: Path,
) -> None:
    write_camvid(tmp_path / "data")
    write_camvid(tmp_path / "fewer", train=5)
    one, other = ["--data-dir", "data"], ["--data-dir", "fewer"]
    for done in commands(tmp_path, one, [*one, "--learning-rate", "0.5"]):
        assert_refused(done, "worker 1 has another recipe than the chief", "learning rate (0.5 there")
    for done in commands(tmp_path, one, other):
        assert_refused(
            done, "worker 1 has another data set than the chief", "train images (5 there, 6 on the chief)"
        )
    for done in commands(tmp_path, *[[*one, "--batch", "3"]] * 2):
        assert_refused(done, "a batch of 3", "2 devices", "--batch 4")
    assert not list((tmp_path / "runs/run").glob("checkpoints/*"))


@pytest.mark.slow
def test_the_command_trains_on_two_workers(tmp_path: Path) -> None:
    write_camvid(tmp_path / "data")
    chief, worker = commands(tmp_path, *[["--data-dir", "data"]] * 2)
    assert (chief.returncode, worker.returncode) == (0, 0), chief.stderr[-3000:] + worker.stderr[-3000:]
    assert "python -m training.evaluate runs/run" in chief.stdout
    assert worker.stdout.startswith("worker 1 of 2: waiting up to") and "epoch" not in worker.stdout
    for name in ("recipe.json", "best.weights.h5", "history.csv", "curves.png", "classes.json"):
        assert (tmp_path / "runs/run" / name).stat().st_size > 0
