"""examples/serving: what it answers, its limits, and clients that misbehave."""

import asyncio
import http.client
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import Segmenter
from tests import tiny_tflite as tiny
from tests.tiny import REPOSITORY

pytest.importorskip("fastapi", reason="needs pip install -r requirements-extras.txt")
uvicorn = pytest.importorskip("uvicorn")


def example():
    spec = importlib.util.spec_from_file_location(
        "serving_example", REPOSITORY / "examples/serving/server.py"
    )
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


SERVER = example()
LIMITS = SERVER.Limits(megabytes=0.1, megapixels=0.01, send_seconds=1, answer_seconds=5, waiting=8)


@pytest.fixture(scope="module")
def slow() -> threading.Event:
    """While it is set, a worker takes its time."""
    return threading.Event()


@pytest.fixture(scope="module")
def port(tmp_path_factory, slow) -> Iterator[int]:
    path = tiny.write_bundle(tmp_path_factory.mktemp("model") / "tiny.tflite", tiny.mask_model())
    segmenter = Segmenter(path, threads=1)
    segment = segmenter.segment

    def slowly(*args):
        if slow.is_set():
            time.sleep(0.2)
        return segment(*args)

    segmenter.segment = slowly  # type: ignore[method-assign]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(SERVER.made([segmenter], LIMITS, 2), port=number, log_level="error")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield number
    server.should_exit = True
    thread.join(10)


def asked(port: int, data: bytes, path: str = "/segment", headers: dict | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST" if data else "GET", path, data or None, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def png(height: int = 8, width: int = 12) -> bytes:
    """Left half red, right half blue."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0], rgb[:, width // 2 :, 2] = 200, 200
    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def test_a_mask_an_overlay_and_a_report(port) -> None:
    status, mask = asked(port, png())
    ids = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
    assert status == 200 and (ids[:, :6] == 0).all() and (ids[:, 6:] == 2).all()
    status, report = asked(port, png(), "/segment?give=json")
    assert {row["name"]: row["share"] for row in json.loads(report)["classes"]} == {"red": 0.5, "blue": 0.5}
    assert asked(port, png(), "/segment?give=overlay")[1].startswith(b"\x89PNG")
    status, told = asked(port, b"", "/health")
    assert status == 200 and json.loads(told)["labels"] == list(tiny.LABELS)


@pytest.mark.parametrize(
    ("data", "path", "status", "told"),
    [
        (b"junk", "/segment", 422, "is not an image that is read here"),
        (png()[:60], "/segment", 422, "the image"),
        (png(200, 300), "/segment", 422, "300x200 pixels; up to 0.01 megapixels"),
        (b"x" * 100_001, "/segment", 413, "images of up to 0.1 MB are taken"),
        (png(), "/segment?give=cake", 400, "it must be one of mask, overlay, json"),
    ],
)
def test_what_is_refused(port, data, path, status, told) -> None:
    found, text = asked(port, data, path)
    assert found == status and told in json.loads(text)["detail"]
    assert asked(port, png())[0] == 200  # and the server goes on


def test_a_body_that_does_not_say_how_long_it_is_is_bounded(port) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as link:
        link.sendall(b"POST /segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            link.sendall(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_client_that_sends_nothing_is_let_go(port) -> None:
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 10) as link:
        link.sendall(b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        assert link.recv(1000).startswith(b"HTTP/1.1 408")
    assert 0.9 < time.perf_counter() - start < 8
    assert asked(port, png())[0] == 200


def test_many_at_once_are_served_or_told_to_come_again(port, slow) -> None:
    statuses: list[int] = []
    slow.set()
    try:
        threads = [threading.Thread(target=lambda: statuses.append(asked(port, png())[0])) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        slow.clear()
    assert set(statuses) == {200, 503} and len(statuses) == 24
    # Two are at work and eight wait; what was answered meanwhile made room.
    assert 8 <= statuses.count(200) < 24
    assert asked(port, png())[0] == 200


def test_the_tensorflow_serving_body_fits_the_signature(tmp_path: Path) -> None:
    """The REST body of the README, through JSON, given to the SavedModel as the server would."""
    import tensorflow as tf

    from export import savedmodel
    from tests.exported import COLOURS, colour_examples, colour_model

    size = (32, 48)
    savedmodel.write(colour_model(size), tmp_path / "1", size)
    rgb, label = colour_examples(size, 1)[0].read()
    body = json.dumps({"signature_name": "serving_default", "instances": [rgb.tolist(), rgb.tolist()]})
    request = json.loads(body)
    signature = tf.saved_model.load(str(tmp_path / "1")).signatures[request["signature_name"]]
    (name,) = signature.structured_input_signature[1]
    assert name == "image"  # with one input, an instance is its value and needs no name
    given = signature(image=tf.constant(request["instances"], tf.uint8))
    assert given["mask"].shape == (2, *size) and given["scores"].shape == (2, *size, len(COLOURS))
    assert (given["mask"][0].numpy() == label)[1:].mean() > 0.999
