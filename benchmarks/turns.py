"""Contenders side by side, each in a process of its own; they take turns, one step a turn."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Step = Callable[[], Any]


def race(module: str, task: str, contenders: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every turn of every contender; two turns to warm up are not counted.

    A contender is `python -m MODULE --worker TASK CONTENDER`, which serves its step.
    """
    command = [sys.executable, "-m", module, "--worker", task]
    workers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in contenders
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for number in range(-2, rounds):
            for name, worker in workers.items():
                taken = _turn(worker)
                if number >= 0:
                    times[name].append(taken)
            print(f"\r{task}: {max(0, number + 1)} of {rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.kill()
    return times


def _turn(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("took "):
            return float(line.split()[1])
    raise SystemExit("a contender stopped; what it said stands above")


def serve(step: Step) -> None:
    """In a contender's process: one step a line that comes in, its milliseconds out."""
    for _ in sys.stdin:
        before = time.perf_counter()
        step()
        print(f"took {1000 * (time.perf_counter() - before):.3f}", flush=True)


def print_table(name: str, times: Mapping[str, list[float]], peers: Mapping[str, Sequence[str]]) -> None:
    """Medians, spread, and the time of each peer as a multiple of ours that it is compared with."""
    print(f"\n{name}\n\n| | median, ms | p10..p90 |\n|---|---|---|")
    medians = {contender: statistics.median(found) for contender, found in times.items()}
    for contender, found in times.items():
        low, high = np.percentile(found, (10, 90))
        print(f"| {contender} | {medians[contender]:.1f} | {low:.1f}..{high:.1f} |")
    for peer, mine in peers.items():
        for contender in mine if peer in medians else ():
            print(f"\n{peer} takes {medians[peer] / medians[contender]:.2f} times as long as {contender}.")
