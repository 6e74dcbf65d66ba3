"""The memory that may be taken, on made-up machines: control groups of both versions, nested, and in containers."""

from pathlib import Path

import pytest

from training.data import free_memory

GB = 10**9
NONE_V1 = 9223372036854771712  # what version 1 says where nothing is limited

# The lines of /proc/self/cgroup, the files below /sys/fs/cgroup, and what is left of a machine with 64 GB free.
MACHINES: dict[str, tuple[str, dict[str, int | str], int]] = {
    "no limit": (
        "0::/user.slice",
        {"user.slice/memory.max": "max", "user.slice/memory.current": 5 * GB},
        64 * GB,
    ),
    "no control groups": ("", {}, 64 * GB),
    "a container that sees itself as the root": (
        "0::/",
        {"memory.max": 8 * GB, "memory.current": 1 * GB},
        7 * GB,
    ),
    "systemd, a scope below a slice with less": (
        "0::/user.slice/run-1.scope",
        {
            "user.slice/memory.max": 10 * GB,
            "user.slice/memory.current": 6 * GB,
            "user.slice/run-1.scope/memory.max": 8 * GB,
            "user.slice/run-1.scope/memory.current": 1 * GB,
        },
        4 * GB,
    ),
    "systemd, MemoryHigh": (
        "0::/a.service",
        {"a.service/memory.max": "max", "a.service/memory.high": 3 * GB, "a.service/memory.current": 1 * GB},
        2 * GB,
    ),
    "file cache counts as free": (
        "0::/a.service",
        {
            "a.service/memory.max": 8 * GB,
            "a.service/memory.current": 7 * GB,
            "a.service/memory.stat": f"anon 1000000000\ninactive_file {5 * GB}\nactive_file 7\n",
        },
        6 * GB,
    ),
    "SLURM on version 1": (
        "11:cpuset:/slurm/uid_7/job_9\n4:memory:/slurm/uid_7/job_9/step_0\n1:name=systemd:/x",
        {
            "memory/memory.limit_in_bytes": NONE_V1,
            "memory/memory.usage_in_bytes": 40 * GB,
            "memory/slurm/uid_7/job_9/memory.limit_in_bytes": 16 * GB,
            "memory/slurm/uid_7/job_9/memory.usage_in_bytes": 2 * GB,
            "memory/slurm/uid_7/job_9/step_0/memory.limit_in_bytes": NONE_V1,
            "memory/slurm/uid_7/job_9/step_0/memory.usage_in_bytes": 1 * GB,
            "memory/slurm/uid_7/job_9/memory.stat": f"inactive_file 5\ntotal_inactive_file {1 * GB}",
        },
        15 * GB,
    ),
    "Docker on version 1, whose path is the host's": (
        "5:memory:/docker/0123",
        {"memory/memory.limit_in_bytes": 4 * GB, "memory/memory.usage_in_bytes": 1 * GB},
        3 * GB,
    ),
    "both versions, memory by the first": (
        "4:memory:/job\n0::/system.slice",
        {
            "memory/job/memory.limit_in_bytes": 2 * GB,
            "memory/job/memory.usage_in_bytes": 1 * GB,
            "unified/system.slice/cgroup.procs": "1",
        },
        1 * GB,
    ),
    "a path that leads above what is mounted": (
        "0::/../../job",
        {"job/memory.max": 6 * GB, "job/memory.current": 6 * GB + 5},
        0,
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_smallest_limit_counts(tmp_path: Path, machine: str) -> None:
    groups, files, expected = MACHINES[machine]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 99000000 kB\nMemAvailable:   62500000 kB\n", encoding="utf-8"
    )
    (tmp_path / "proc/self/cgroup").write_text(f"{groups}\n", encoding="utf-8")
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    assert free_memory.available(tmp_path / "proc", tmp_path / "sys") == expected


def test_this_machine_has_some() -> None:
    assert 0 < free_memory.available() < 2**60
