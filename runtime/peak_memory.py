"""How much memory a model takes: python -m runtime.peak_memory FILE THREADS prints the peak of this process in bytes.

It loads the file and runs it three times; Python, NumPy, OpenCV and what runs the file are in it. Prints 0 where the
system does not say (Windows).
"""

import sys
from pathlib import Path

import numpy as np

from runtime.errors import exit_on_user_error
from runtime.segmenter import Segmenter

RUNS = 3


def main(path: str, threads: str) -> None:
    segmenter = Segmenter(path, int(threads), trusted=True)
    for _ in range(RUNS):
        segmenter.segment(np.zeros((*segmenter.size, 3), np.uint8))
    print(peak())


def peak() -> int:
    """Bytes that this process has held at most; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # the peak of getrusage would begin with that of the process that started this one
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main, *sys.argv[1:]))
