"""Requests a second and milliseconds of the server: python examples/serving/load.py URL IMAGE [--at 1 4 16]."""

import argparse
import http.client
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from runtime.errors import UserError, exit_on_user_error


def measured(url: str, data: bytes, clients: int, seconds: float) -> tuple[Counter[int], np.ndarray, float]:
    """Answers by their status, milliseconds of each that was 200, and how long it took; each client keeps one
    connection and asks again when it has its answer."""
    parts, statuses, times = urlsplit(url), Counter[int](), list[float]()
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while time.perf_counter() < end:
            start = time.perf_counter()
            connection.request("POST", parts.path, data)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
            if answer.status == 200:
                times.append(1e3 * (time.perf_counter() - start))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, np.array(times), time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("url", help="such as http://127.0.0.1:8600/segment")
    command.add_argument("image", type=Path)
    command.add_argument("--at", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="clients at once")
    command.add_argument("--seconds", type=float, default=10)
    args = command.parse_args(argv)
    try:
        data = args.image.read_bytes()
    except OSError as error:
        raise UserError(f"{args.image} cannot be read: {error.strerror}") from error
    print("clients  requests/s  p50 ms  p95 ms  answers")
    for clients in args.at:
        statuses, times, seconds = measured(args.url, data, clients, args.seconds)
        middle, high = np.percentile(times, (50, 95)) if len(times) else (np.nan, np.nan)
        said = ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))
        print(
            f"{clients:>7}  {len(times) / seconds:>10.1f}  {middle:>6.0f}  {high:>6.0f}  {said}", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
