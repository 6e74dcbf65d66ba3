"""What a second worker costs and brings on this machine, and what more of them would cost by arithmetic.

    python -m benchmarks.distributed [--backbone mobilenet_v2] [--crop 128x128] [--batch 2] [--steps 10]
    python -m benchmarks.distributed --only-computed --step-seconds 0.5 --gradient-megabytes 257 --norms 114

Measured: the median step of DeepLabV3+ on random images, with training.engine.train_step under the very strategies of
training.train, each in fresh processes: one process with one thread and one batch, one process with two threads and
two batches, two workers (MultiWorkerMirroredStrategy over the loopback, BatchNorm synchronised) with one thread and
one batch each; and what the workers' agreement on whether to stop adds to a step.

Computed: a ring all-reduce of G bytes of gradients among N workers sends 2 (N - 1) / N G bytes from each, in 2 (N - 1)
rounds (Patarasu and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"). Synchronised
BatchNorm adds five small all-reduces a layer (sum, sum of squares and count forward, two gradients backward) that cost
their latency only: 2 log2 N rounds where NCCL reduces them along a tree. With a step of t seconds, B such layers,
bandwidth b and latency l, and nothing overlapped, a step takes t + 2 (N - 1) / N G / b + (2 (N - 1) + 10 B log2 N) l.
"""

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from runtime.errors import exit_on_user_error
from training import distributed
from training.command_line import size
from training.start_tensorflow import start_tensorflow

WARM_UP = 3
WORKERS = (2, 8, 16, 32, 64)
NETWORKS = {"10 Gbit/s": 10e9 / 8, "25 Gbit/s": 25e9 / 8, "100 Gbit/s": 100e9 / 8}
LATENCY = 20e-6  # seconds a round, assumed: a data centre's Ethernet without RDMA


def measure(args: argparse.Namespace) -> int:
    """One worker (or the one process): time the steps; the chief prints what it found as JSON."""
    with distributed.joined(os.environ.get("TF_CONFIG"), seconds=600, say=lambda text: None) as cluster:
        start_tensorflow(devices=cluster.size == 1)
        found = timed_steps(args, cluster)
        cluster.exchange("done")
        if cluster.chief:
            print(json.dumps(found))
    return 0


def timed_steps(args: argparse.Namespace, cluster: distributed.Cluster) -> dict[str, Any]:
    import keras
    import numpy as np
    import tensorflow as tf

    from training.engine import prepare_training
    from training.engine.train_step import make_train_state, make_train_step
    from training.runs.recipe import Recipe
    from training.runs.trained_run import build_model

    devices = prepare_training.strategy(cluster)
    keras.utils.set_random_seed(0)
    recipe = Recipe.of(
        model="deeplabv3plus",
        data="scenes",
        backbone=args.backbone,
        crop=size(args.crop),
        batch=args.batch * cluster.size,
    )
    with devices.scope():
        model = build_model(recipe, 8)
        prepare_training.synchronise(model)
        train_state = make_train_state(model, recipe.optimisation, 100)
    step = make_train_step(train_state, recipe, devices, None)
    rng = np.random.default_rng(cluster.index)
    images = tf.constant(rng.integers(0, 256, (args.batch, *recipe.data.crop, 3)), tf.uint8)
    labels = tf.constant(rng.integers(0, 8, (args.batch, *recipe.data.crop)), tf.uint8)
    seconds, agreeing = [], []
    for _ in range(WARM_UP + args.steps):
        before = time.monotonic()
        float(step(images, labels)[0])
        stepped = time.monotonic()
        cluster.any(False, False)  # as the loop asks
        seconds.append(stepped - before)
        agreeing.append(time.monotonic() - stepped)
    gradient = sum(4 * int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return {
        "step": statistics.median(seconds[WARM_UP:]),
        "agreeing": statistics.median(agreeing[WARM_UP:]),
        "gradient_bytes": gradient,
    }


def run(args: argparse.Namespace, *, workers: int, threads: int, batch: int) -> dict[str, Any]:
    """Start the processes of one row; what the chief has measured."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(workers)]
    addresses = [f"localhost:{opened.getsockname()[1]}" for opened in sockets]
    for opened in sockets:
        opened.close()
    own = [
        "--measure",
        "--backbone",
        args.backbone,
        "--crop",
        args.crop,
        "--batch",
        str(batch),
        "--steps",
        str(args.steps),
    ]
    processes = []
    for index in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads),
                       "TF_CONFIG": json.dumps(config) if workers > 1 else ""}  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.distributed", *own]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a process has failed; its own words are above")
    found: dict[str, Any] = json.loads(outputs[0].strip().splitlines()[-1])
    return found


def sent_bytes(gradient: float, workers: int) -> float:
    """What each worker sends (and receives) in one all-reduce."""
    return 2 * (workers - 1) / workers * gradient


def measured_table(args: argparse.Namespace) -> None:
    rows = (
        ("1 process, 1 thread", 1, 1, args.batch),
        ("1 process, 2 threads", 1, 2, 2 * args.batch),
        ("2 workers, 1 thread each", 2, 1, args.batch),
    )
    print(f"measured: deeplabv3plus {args.backbone}, {args.crop}, median of {args.steps} steps\n")
    print("| | global batch | step, ms | images/s | sent by each worker, MB a step | agreeing, ms |")
    print("|---|---|---|---|---|---|")
    for name, workers, threads, batch in rows:
        found = run(args, workers=workers, threads=threads, batch=batch)
        images = batch * workers
        sent = sent_bytes(found["gradient_bytes"], workers) / 1e6
        print(
            f"| {name} | {images} | {1000 * found['step']:.0f} | {images / found['step']:.2f} | {sent:.1f} | "
            f"{1000 * found['agreeing']:.2f} |",
            flush=True,
        )


def computed_table(step: float, gradient: float, norms: int) -> None:
    print(
        f"\ncomputed, not measured: a step of {step:.2f} s on one worker, {gradient / 1e6:.0f} MB of gradients, "
        f"{norms} BatchNorms, {1e6 * LATENCY:.0f} us a round, nothing overlapped;\n"
        "seconds a step (share of it that computes)\n"
    )
    print("| workers | sent by each, MB a step | " + " | ".join(NETWORKS) + " |")
    print("|---|---|" + "---|" * len(NETWORKS))
    for workers in WORKERS:
        sent = sent_bytes(gradient, workers)
        rounds = 2 * (workers - 1) + 10 * norms * math.log2(workers)
        times = [step + sent / rate + rounds * LATENCY for rate in NETWORKS.values()]
        cells = " | ".join(f"{seconds:.3f} ({100 * step / seconds:.0f}%)" for seconds in times)
        print(f"| {workers} | {sent / 1e6:.0f} | {cells} |")


def main() -> int:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--backbone", default="mobilenet_v2")
    command.add_argument("--crop", default="128x128")
    command.add_argument("--batch", type=int, default=2, help="of one worker")
    command.add_argument("--steps", type=int, default=10)
    command.add_argument("--step-seconds", type=float, default=0.5, help="of the computed table")
    command.add_argument("--gradient-megabytes", type=float, default=257.0, help="of the computed table")
    command.add_argument("--norms", type=int, default=114, help="of the computed table")
    command.add_argument("--only-computed", action="store_true")
    command.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.measure:
        return measure(args)
    if not args.only_computed:
        measured_table(args)
    computed_table(args.step_seconds, 1e6 * args.gradient_megabytes, args.norms)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
