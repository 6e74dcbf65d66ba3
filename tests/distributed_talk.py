"""One worker that does not train, as tests/training/engine/test_distributed.py starts it: python -m
tests.distributed_talk WORK SECONDS, with TF_CONFIG in its environment. What WORK gives is printed as JSON; it ends as
training.train does."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import UserError, exit_on_user_error
from training import distributed


def hear(cluster: distributed.Cluster) -> Any:
    told = cluster.exchange([cluster.index, 0.1 + cluster.index / 3, float("nan"), "ü" * cluster.index])
    flags = cluster.any(cluster.index == 2, False, cluster.index == 0)
    distributed.PIECE = 1_000_000  # type: ignore[misc]
    content = cluster.share(bytes(range(256)) * 5000 + b"end" if cluster.chief else b"")
    ranks = cluster.interleaved([cluster.index] * (2 if cluster.index else 3))
    whole = content == bytes(range(256)) * 5000 + b"end"
    return [[row[:2] + row[3:] for row in told], flags, whole, cluster.share() == b"", ranks, ports()]


def ports() -> list[int]:
    """Which TCP ports this process listens on (Linux)."""
    own = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    rows = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return sorted(
        {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}
    )


def disagree(cluster: distributed.Cluster) -> None:
    distributed.agree(cluster, "version", {"keras": "3.15.1"})
    distributed.agree(cluster, "recipe", {"batch": 8, "learning_rate": 0.1 if cluster.index < 2 else 0.2})


def stop(cluster: distributed.Cluster) -> None:
    """KERBSIDE_UNLUCKY=INDEX HOW: that worker ends between two exchanges."""
    unlucky, how = os.environ["KERBSIDE_UNLUCKY"].split()
    cluster.exchange("begin")
    if cluster.index == int(unlucky):
        if how == "sentence":
            raise UserError("street_7.png does not exist")
        if how == "error":
            raise ZeroDivisionError
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(60)
    cluster.exchange("a step")


WORK: dict[str, Callable[[distributed.Cluster], Any]] = {"hear": hear, "disagree": disagree, "stop": stop}


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    with distributed.joined(os.environ["TF_CONFIG"], seconds=float(sys.argv[2])) as cluster:
        print(json.dumps(WORK[sys.argv[1]](cluster)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
