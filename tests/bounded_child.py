"""What `runtime.confined` is tried with: `python -m tests.bounded_child WAY`."""

import os
import sys
import time

import numpy as np

from runtime.errors import UserError, exit_on_user_error


def main(way: str) -> int:
    print("begun", flush=True)
    if way == "memory":
        print(np.ones(1 << 30, np.uint8).sum())
    if way == "abort":
        os.abort()
    if way == "silence":
        time.sleep(60)
    if way == "talk":
        while True:
            print("on", flush=True)
            time.sleep(0.05)
    if way == "sentence":
        raise UserError("x.mp4 is damaged; copy it again.")
    if way == "traceback":
        raise ValueError("no")
    if way == "deaf":  # its output is closed, and it goes on
        sys.stdout.close()
        os.close(1)
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main, sys.argv[1]))
