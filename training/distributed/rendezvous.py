"""How the workers of a run find each other: one TCP connection between the chief and each other worker.

The chief waits for them at its own address in TF_CONFIG and then leaves the port to TensorFlow; the connections stay.
Messages are JSON, or arrays, each behind its length; never pickled objects.
"""

import json
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime import strict_json
from runtime.errors import UserError

Say = Callable[[str], None]
GREETING = b"kerbside worker 1\n"  # the 1 counts versions of what follows it
RETRY_SECONDS = 0.5
MOST_MESSAGE = 1_000_000  # bytes of a greeting: the addresses of all workers
# A machine that lost its power closes no connection: its silence is noticed after 30 + 3 * 10 s.
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class PeerLost(Exception):
    """Another worker is gone without a word. The message says which, as far as it is known."""


def connections(
    addresses: tuple[str, ...], index: int, seconds: float, say: Say
) -> tuple[socket.socket, ...]:
    """The links of this worker, when all workers have come; UserError after `seconds`."""
    listener = _listener(addresses[index])
    try:
        if index:
            listener.close()  # it has shown that the port is free for TensorFlow
            return (_call_chief(addresses, index, seconds, say),)
        return _wait_for_workers(listener, addresses, seconds, say)
    finally:
        listener.close()


def _listener(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UserError(
            f"the port {port} of {address} cannot be used ({error.strerror}): end what uses it, or write another one "
            "into every worker's TF_CONFIG"
        ) from error


def _wait_for_workers(
    listener: socket.socket, addresses: tuple[str, ...], seconds: float, say: Say
) -> tuple[socket.socket, ...]:
    say(f"waiting up to {seconds:.0f} s for the other {len(addresses) - 1} of {len(addresses)} workers.")
    found: dict[int, socket.socket] = {}
    until = time.monotonic() + seconds
    try:
        while len(found) < len(addresses) - 1:
            listener.settimeout(max(0.01, until - time.monotonic()))
            try:
                link, _ = listener.accept()
            except TimeoutError:
                missing = [f"{i} ({addresses[i]})" for i in range(1, len(addresses)) if i not in found]
                raise UserError(
                    f"worker {', '.join(missing)} did not come within {seconds:.0f} s: start it with the same command "
                    "and its own TF_CONFIG, or wait longer with --worker-timeout"
                ) from None
            _admit(link, found, addresses)
            for number in [number for number, other in found.items() if _gone(other)]:
                found.pop(number).close()  # started, and ended again while it waited
    except BaseException as error:
        for link in found.values():
            with suppress(PeerLost):
                send(link, {"stopped": f"the chief stopped: {str(error) or 'it was interrupted'}"})
            link.close()
        raise
    for link in found.values():
        send(link, {"welcome": len(addresses)})
    return tuple(found[number] for number in range(1, len(addresses)))


def _admit(link: socket.socket, found: dict[int, socket.socket], addresses: tuple[str, ...]) -> None:
    """Take a caller in, if it is a worker of this run: an older TensorFlow, say, may call at this port as well."""
    link.settimeout(10.0)
    try:
        if _exactly(link, len(GREETING)) != GREETING:
            link.close()
            return
        link.sendall(GREETING)
        hello = strict_json.checked(
            strict_json.parse(receive_bytes(link, MOST_MESSAGE)), {"addresses": list[str], "index": int}
        )
    except (PeerLost, OSError, ValueError):  # no worker of ours, or one of another version
        link.close()
        return
    refusal = None
    if hello["addresses"] != list(addresses) or not 0 < hello["index"] < len(addresses):
        refusal = "its TF_CONFIG names another cluster than the chief's: every worker needs the same one"
    elif hello["index"] in found and not _gone(found[hello["index"]]):
        refusal = f"there is a worker {hello['index']} already: each needs its own index in TF_CONFIG"
    if refusal:
        with suppress(PeerLost):
            send(link, {"stopped": f"the chief has refused worker {hello['index']}: {refusal}"})
        link.close()
        return
    if hello["index"] in found:
        found.pop(hello["index"]).close()
    found[hello["index"]] = _kept_alive(link)


def _call_chief(addresses: tuple[str, ...], index: int, seconds: float, say: Say) -> socket.socket:
    say(f"worker {index} of {len(addresses)}: waiting up to {seconds:.0f} s for the chief at {addresses[0]}.")
    host, _, port = addresses[0].rpartition(":")
    until, reason = time.monotonic() + seconds, "no answer"
    while time.monotonic() < until:
        try:
            link = socket.create_connection((host.strip("[]"), int(port)), timeout=min(10.0, seconds))
            link.sendall(GREETING)
            if _exactly(link, len(GREETING)) == GREETING:
                send(link, {"addresses": addresses, "index": index})
                link = _kept_alive(link)
                message = receive(link)
                if "stopped" in message:
                    raise UserError(message["stopped"])
                return link
            reason = "something else answers at that port"
        except (OSError, PeerLost) as error:
            reason = getattr(error, "strerror", None) or str(error)
        time.sleep(RETRY_SECONDS)
    raise UserError(
        f"the chief at {addresses[0]} could not be reached within {seconds:.0f} s ({reason}): start it with the same "
        "command and its own TF_CONFIG, or wait longer with --worker-timeout"
    )


def _kept_alive(link: socket.socket) -> socket.socket:
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a message is small and somebody waits for it
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return link


def send(link: socket.socket, message: dict[str, Any]) -> None:
    send_bytes(link, json.dumps(message).encode())


def send_bytes(link: socket.socket, content: bytes) -> None:
    try:
        link.sendall(len(content).to_bytes(8, "big"))
        link.sendall(content)
    except OSError as error:
        raise PeerLost(f"the connection is closed ({error.strerror})") from error


def receive(link: socket.socket) -> dict[str, Any]:
    """A message; PeerLost where something else than a worker talks here."""
    try:
        data = receive_bytes(link)
        return strict_json.checked(strict_json.parse(data, len(data), nan=True), {})
    except ValueError as error:
        raise PeerLost(f"what came is no message of a worker ({error})") from error


def receive_bytes(link: socket.socket, most: int | None = None) -> bytes:
    """What `send_bytes` sent; ValueError, before anything is allocated, where that says more than `most` bytes."""
    length = int.from_bytes(_exactly(link, 8), "big")
    if most is not None and length > most:
        raise ValueError(f"a message of {length} bytes")
    return _exactly(link, length)


def _exactly(link: socket.socket, count: int) -> bytes:
    content = bytearray(count)
    view, filled = memoryview(content), 0
    while filled < count:
        try:
            got = link.recv_into(view[filled:])
        except OSError as error:
            raise PeerLost(f"the connection is closed ({error.strerror or error})") from error
        if not got:
            raise PeerLost("the connection is closed")
        filled += got
    return bytes(content)


def drain(link: socket.socket, seconds: float) -> None:
    """Read, and forget, what the other end still sends, until it closes or `seconds` are over."""
    until = time.monotonic() + seconds
    with suppress(OSError):
        while select.select([link], [], [], max(0.0, until - time.monotonic()))[0] and link.recv(1 << 16):
            pass


def _gone(link: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    if not select.select([link], [], [], 0)[0]:
        return False
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except OSError:
        return True
