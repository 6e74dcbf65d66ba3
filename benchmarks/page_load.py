"""The page as a server: how soon the first image is there, what a thousand runs leave in memory, who waits for whom.

    python -m benchmarks.page_load first [--times 5]          # a new server each time, its first visitor
    python -m benchmarks.page_load memory [--runs 1000]       # one visitor, another model at each run; RSS
    python -m benchmarks.page_load visitors [--runs 200]      # a new visitor each run, who leaves again
    python -m benchmarks.page_load slow --model SLOW.tflite   # how long one visitor waits while another runs SLOW

It speaks Streamlit's own protocol (WebSocket, protobuf), so that the time is the server's and no browser's; what a
browser adds is printed by tests/app/test_app_browser.py. A run is what a click causes: the whole tab, with its image
decoded, segmented, coloured and sent. Linux: memory is VmRSS of /proc.
"""

import argparse
import itertools
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import UserError, exit_on_user_error

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120  # seconds


@contextmanager
def server(root: Path | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The page in a process of its own: its port and the process, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["run", str(ROOT / "streamlit_app.py"), "--server.headless", "true"]
    arguments += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    environment = {**os.environ, **({"KERBSIDE_ROOT": str(root)} if root else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    started = time.monotonic()
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).read()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() - started > PATIENCE:
                    raise UserError("the page did not start; run streamlit run streamlit_app.py.") from error
                time.sleep(0.05)
        yield port, process
    finally:
        process.terminate()
        process.wait(timeout=30)


class Visitor:
    """One browser tab, without the browser: `widgets` are the protobufs of the last run by key and `errors` its red
    boxes."""

    def __init__(self, port: int) -> None:
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        address = f"ws://127.0.0.1:{port}/_stcore/stream"
        self._connection = connect(address, subprotocols=[Subprotocol("streamlit")], max_size=None)
        self._states: dict[str, Any] = {}
        self._page = ""
        self.widgets: dict[str, Any] = {}
        self.errors: list[str] = []

    def __enter__(self) -> "Visitor":
        self._socket = self._connection.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._connection.__exit__(*problem)

    def choose(self, key: str, option: str) -> float:
        """Select an option of a select box and run; seconds until all was sent."""
        from streamlit.proto.WidgetStates_pb2 import WidgetState

        self._states[key] = WidgetState(id=self.widgets[key].id, string_value=option)
        return self.run()

    def run(self) -> float:
        """One run of the script; seconds until all was sent."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        asked = BackMsg()
        asked.rerun_script.page_script_hash = self._page
        asked.rerun_script.widget_states.widgets.extend(self._states.values())
        started = time.perf_counter()
        self._socket.send(asked.SerializeToString())
        self.errors = []
        while True:
            told = ForwardMsg()
            told.ParseFromString(self._socket.recv(timeout=PATIENCE))
            kind = told.WhichOneof("type")
            if kind == "delta":
                self._note(told.delta.new_element)
            elif kind == "navigation":
                self._page = told.navigation.page_script_hash
            elif kind == "script_finished":
                return time.perf_counter() - started

    def _note(self, element: Any) -> None:
        name = element.WhichOneof("type")
        if name == "selectbox":
            self.widgets[element.selectbox.id.rsplit("-", 1)[-1]] = element.selectbox
        elif name == "alert" and element.alert.format == element.alert.ERROR:
            self.errors.append(element.alert.body)
        elif name == "exception":
            raise UserError(f"the page failed: {element.exception.message}")
        elif name == "bidi_component":
            self.widgets[element.bidi_component.component_name] = element.bidi_component


def first(times: int) -> None:
    seconds, again = [], []
    for _ in range(times):
        with server() as (port, _), Visitor(port) as visitor:
            seconds.append(visitor.run())
            require_image(visitor)
            with Visitor(port) as second:
                again.append(second.run())
    print(f"first visitor of a new server: {spread(seconds)}; the next one: {spread(again)}")


def memory(runs: int) -> None:
    """RSS at a tenth of the runs, where every cache is full, and at the end."""
    with server() as (port, process), Visitor(port) as visitor:
        visitor.run()
        require_image(visitor)
        models = list(visitor.widgets["segment_method"].options)[:2]
        step = max(1, runs // 10)
        seconds = []
        for number in range(1, runs + 1):
            seconds.append(visitor.choose("segment_method", models[number % 2]))
            if number % step == 0:
                print(f"run {number}: {resident(process.pid):.1f} MB", flush=True)
        print(f"{' and '.join(models)} in turn; a run: {spread(seconds)}")


def visitors(runs: int) -> None:
    with server() as (port, process):
        step = max(1, runs // 10)
        for number in range(1, runs + 1):
            with Visitor(port) as visitor:
                visitor.run()
                require_image(visitor)
            if number % step == 0:
                print(f"visitor {number}: {resident(process.pid):.1f} MB", flush=True)


def slow(model: str, times: int = 9) -> None:
    """A quick visitor's runs alone, and while another runs `model`, an option of the page's list, all the time."""
    with server() as (port, _), Visitor(port) as quick, Visitor(port) as other:
        quick.run()
        other.run()
        quicker = [name for name in quick.widgets["segment_method"].options if name != model][:2]
        turns = itertools.count(1)

        def series(count: int = times) -> list[float]:
            return [quick.choose("segment_method", quicker[next(turns) % 2]) for _ in range(count)]

        alone, stop, took = series(), threading.Event(), []
        loading = threading.Thread(target=lambda: took.append(other.choose("segment_method", model)))
        loading.start()
        while_loading = series(1)
        while loading.is_alive():
            while_loading += series(1)
        print(f"the slow model's first run, loading it: {took.pop():.2f} s")

        def keep_busy() -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                other.choose("segment_method", quicker[turn % 2])  # else the last result is taken
                took.append(other.choose("segment_method", model))

        busy = threading.Thread(target=keep_busy)
        busy.start()
        beside = series()
        stop.set()
        busy.join()
        print(f"a run of the slow model: {spread(took)}")
        print(f"another visitor's runs alone: {spread(alone)}; while it loads: {spread(while_loading)}")
        print(f"another visitor's runs while it runs: {spread(beside)}")


def require_image(visitor: Visitor) -> None:
    if visitor.errors or "kerbside_viewer" not in visitor.widgets:
        raise UserError(f"the page shows no image: {visitor.errors or 'models/ or examples/ is empty'}.")


def resident(pid: int) -> float:
    """MB that the process holds."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def spread(seconds: list[float]) -> str:
    return (
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}..{max(seconds):.2f}, {len(seconds)} times)"
    )


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.page_load", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("what", choices=("first", "memory", "visitors", "slow"))
    command.add_argument("--times", type=int, default=5, help="servers started by `first` (default 5)")
    command.add_argument("--runs", type=int, default=1000, help="of `memory` and `visitors` (default 1000)")
    command.add_argument("--model", default="", metavar="NAME", help="of `slow`, as the page's list has it")
    options = command.parse_args(argv)
    if options.what == "first":
        first(options.times)
    elif options.what == "slow":
        slow(options.model)
    else:
        (memory if options.what == "memory" else visitors)(options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
