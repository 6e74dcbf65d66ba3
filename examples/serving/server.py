"""A small HTTP server on the runtime: an image in, its class ids out.

    pip install '.[serve]'
    python examples/serving/server.py models/x_int8.tflite --port 8600

    curl --data-binary @street.jpg http://127.0.0.1:8600/segment > mask.png
    curl --data-binary @street.jpg 'http://127.0.0.1:8600/segment?give=json'
    curl http://127.0.0.1:8600/health

Waiting images are taken in batches of up to `--batch`, which are decoded, segmented and encoded in one go, a worker and
a model of one thread each for `--workers`. What does not fit into the queue is told to come again (503).
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from runtime import Segmenter, UserError
from runtime.errors import exit_on_user_error
from runtime.image import check_header, read_rgb

GIVES = {"mask": "image/png", "overlay": "image/png", "json": "application/json"}


@dataclass(frozen=True)
class Limits:
    """What a request may be: bytes and pixels of an image, seconds to send it, seconds to be answered; and how many
    images may wait."""

    megabytes: float = 20
    megapixels: float = 12
    send_seconds: float = 10
    answer_seconds: float = 30
    waiting: int = 64


@dataclass
class Job:
    data: bytes
    give: str
    answer: "asyncio.Future[bytes]"


def made(segmenters: Sequence[Segmenter], limits: Limits = Limits(), batch: int = 4) -> FastAPI:  # noqa: B008
    """The server's application; one worker for each segmenter."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        app.state.queue = asyncio.Queue(limits.waiting)
        app.state.threads = ThreadPoolExecutor(len(segmenters))
        workers = [
            asyncio.create_task(_work(app, segmenter, batch, limits.megapixels)) for segmenter in segmenters
        ]
        yield
        for worker in workers:
            worker.cancel()
        app.state.threads.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="Kerbside", lifespan=running)
    model = segmenters[0]

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "model": model.path.name,
            "labels": list(model.labels),
            "waiting": app.state.queue.qsize(),
            "limits": vars(limits),
        }

    @app.post("/segment")
    async def segment(request: Request, give: str = "mask") -> Response:
        if give not in GIVES:
            raise HTTPException(400, f"give is {give}: it must be one of {', '.join(GIVES)}")
        try:
            async with asyncio.timeout(limits.send_seconds):
                data = await _body(request, int(limits.megabytes * 1e6))
        except TimeoutError as error:
            raise HTTPException(408, f"the image did not come within {limits.send_seconds:g} s") from error
        job = Job(data, give, asyncio.get_running_loop().create_future())
        try:
            app.state.queue.put_nowait(job)
        except asyncio.QueueFull as error:
            text = f"{limits.waiting} images wait already: come again"
            raise HTTPException(503, text, {"Retry-After": "1"}) from error
        try:
            async with asyncio.timeout(limits.answer_seconds):
                return Response(await job.answer, media_type=GIVES[give])
        except TimeoutError as error:
            raise HTTPException(504, f"not done within {limits.answer_seconds:g} s") from error
        except UserError as error:
            raise HTTPException(422, str(error)) from error

    return app


async def _body(request: Request, most: int) -> bytes:
    """The image; what says or turns out to be larger is refused before it is read."""
    said = request.headers.get("content-length", "0")
    too_large = HTTPException(413, f"images of up to {most / 1e6:g} MB are taken", {"Connection": "close"})
    if not said.isdecimal() or int(said) > most:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)


async def _work(app: FastAPI, segmenter: Segmenter, batch: int, megapixels: float) -> None:
    """Take what waits, up to `batch` at once, and answer it."""
    loop = asyncio.get_running_loop()
    while True:
        jobs = [await app.state.queue.get()]
        while len(jobs) < batch and not app.state.queue.empty():
            jobs.append(app.state.queue.get_nowait())
        wanted = [job for job in jobs if not job.answer.done()]  # nobody waits for the others any more
        found = await loop.run_in_executor(app.state.threads, _answers, segmenter, wanted, megapixels)
        for job, answer in zip(wanted, found, strict=True):
            if job.answer.done():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)


def _answers(segmenter: Segmenter, jobs: Sequence[Job], megapixels: float) -> list[bytes | Exception]:
    """One a job; the fault of one is no fault of another."""
    found: list[bytes | Exception] = []
    for job in jobs:
        try:
            found.append(_answer(segmenter, job, megapixels))
        except Exception as error:
            found.append(error)
    return found


def _answer(segmenter: Segmenter, job: Job, megapixels: float) -> bytes:
    header = check_header(job.data, "the image")
    if header.width * header.height > megapixels * 1e6:
        raise UserError(
            f"the image has {header.width}x{header.height} pixels; up to {megapixels:g} megapixels are taken."
        )
    found = segmenter.segment(read_rgb(job.data, "the image"))
    if job.give == "json":
        answer: bytes = JSONResponse(found.report()).body
        return answer
    return found.mask_png() if job.give == "mask" else found.overlay_png()


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("model", help="a .tflite, or a name of kerbside list")
    command.add_argument("--host", default="127.0.0.1", help="this machine alone if not given")
    command.add_argument("--port", type=int, default=8600)
    command.add_argument("--workers", type=int, default=2, help="models at work side by side (default 2)")
    command.add_argument(
        "--batch", type=int, default=4, help="images that a worker takes at once (default 4)"
    )
    command.add_argument("--megabytes", type=float, default=Limits.megabytes, help="of an image")
    command.add_argument("--megapixels", type=float, default=Limits.megapixels, help="of an image")
    args = command.parse_args(argv)
    for name in ("workers", "batch", "megabytes", "megapixels"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name} is {getattr(args, name)}; it has to be more than 0.")
    started = time.perf_counter()
    segmenters = [Segmenter(args.model, threads=1).warm_up() for _ in range(args.workers)]
    print(f"{segmenters[0].path.name} is ready after {time.perf_counter() - started:.1f} s", flush=True)
    app = made(segmenters, Limits(megabytes=args.megabytes, megapixels=args.megapixels), args.batch)
    # Connections beyond what may wait are refused at once, a client that sends nothing is dropped.
    uvicorn.run(
        app, host=args.host, port=args.port, limit_concurrency=256, timeout_keep_alive=5, log_level="warning"
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
