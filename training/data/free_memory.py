"""How much memory this process may take: the machine's, or what SLURM, systemd or a container leaves it of that."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# Of version 2 and 1 of control groups: the files with a limit, in use, and the line of memory.stat with what of it is
# file cache that the kernel would give up. Where nothing is limited there is "max", or a number beyond any machine.
V2 = (("memory.max", "memory.high"), "memory.current", "inactive_file")
V1 = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def available(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Bytes that can be had without swapping: the smallest of what the machine has free and of what is left of the
    limit of each control group that this process is in, its own and those above it. `proc` and `sys` are the kernel's.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = _numbers(proc / "meminfo").get("MemAvailable:")
    if found is not None:
        free = 1024 * found
    return max(0, min([free, *_left(proc / "self" / "cgroup", sys / "fs" / "cgroup")]))


def _left(groups: Path, mounted: Path) -> Iterator[int]:
    """What is left of each limit, in bytes. A line of /proc/self/cgroup is NUMBER:CONTROLLERS:PATH."""
    lines = []
    with suppress(OSError):
        lines = groups.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:  # version 2; "unified" where version 1 rules beside it
            for place in (mounted, mounted / "unified"):
                yield from _of_path(place, path, *V2)
        elif "memory" in controllers.split(","):
            yield from _of_path(mounted / "memory", path, *V1)


def _of_path(mounted: Path, path: str, limits: tuple[str, ...], used: str, cached: str) -> Iterator[int]:
    """Of a group and of all above it. A container may see its own group as the root, and then a path that is not there
    or that leads above it: what exists of it counts."""
    own = PurePosixPath("/", *(part for part in path.split("/") if part not in ("", ".", "..")))
    for group in (own, *own.parents):
        place = mounted / str(group).lstrip("/")
        with suppress(OSError, ValueError):
            in_use = int((place / used).read_text(encoding="utf-8")) - _numbers(place / "memory.stat").get(
                cached, 0
            )
            for name in limits:
                with suppress(OSError, ValueError):  # "max" where there is no limit
                    yield int((place / name).read_text(encoding="utf-8")) - in_use


def _numbers(path: Path) -> dict[str, int]:
    """The lines NAME NUMBER ... of a file of the kernel's; {} where there is none."""
    found = {}
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                found[words[0]] = int(words[1])
    return found
