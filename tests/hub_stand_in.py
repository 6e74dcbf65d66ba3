"""As much of the Hugging Face Hub's HTTP interface as its client asks of it to make a repository, fill and read it."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(BaseHTTPRequestHandler):
    """`server.repositories` are the files by name by repository, `server.asked` the paths of all requests by
    method. While the server is `gone`, every request is answered by 503; the revision refused-CODE-ERROR is answered
    so; without the token `secret` nothing is written."""

    server: Any
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        refused = re.search(r"/refused-(\d+)-(\w*)", path)
        if self.server.gone or refused:
            code, error = refused.groups() if refused else (503, "")
            return self.answer(int(code), {}, {"X-Error-Code": error})
        for name, files in self.server.repositories.items():
            revision, _, file = path.removeprefix(f"/{name}/resolve/").partition("/")
            if path.startswith(f"/{name}/resolve/"):
                if file not in files:
                    return self.answer(
                        404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(files)}
                    )
                tags = {
                    "X-Repo-Commit": commit(files),
                    "ETag": f'"{hashlib.sha256(files[file]).hexdigest()}"',
                }
                return self.answer(200, files[file], tags)
            if path.startswith(f"/api/models/{name}/tree/"):
                return self.answer(200, [entry(file, data) for file, data in files.items()])
            if path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": file} for file in files]
                about = {"id": name, "sha": commit(files), "siblings": siblings, "private": False, "tags": []}
                return self.answer(200, about)
        return self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.gone:
            return self.answer(503, {})
        if self.headers.get("Authorization") != "Bearer secret":
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            self.server.repositories.setdefault(name, {})
            return self.answer(
                200, {"url": f"{self.server.address}/{name}", "id": name, "private": said.get("private")}
            )
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            kinds = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self.answer(200, {"files": kinds})
        name = path.removeprefix("/api/models/").removesuffix("/commit/main")
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[name][line["value"]["path"]] = content
        oid = commit(self.server.repositories[name])
        return self.answer(200, {"commitUrl": f"{self.server.address}/{name}/commit/{oid}", "commitOid": oid})

    def answer(self, code: int, what: Any, headers: dict[str, str] | None = None) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        kind = "application/octet-stream" if isinstance(what, bytes) else "application/json"
        self.send_response(code)
        for name, value in {
            **(headers or {}),
            "Content-Type": kind,
            "Content-Length": str(len(data)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def entry(name: str, data: bytes) -> dict[str, Any]:
    """A file in the Hub's listing of a folder."""
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def commit(files: dict[str, bytes]) -> str:
    """A revision of 40 digits that is another once a file is."""
    sums = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())
    return hashlib.sha1(repr(sums).encode()).hexdigest()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Hub) -> Iterator[Any]:
    """A server on the loopback; its `address` is an HF_ENDPOINT."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.repositories, server.asked, server.gone = {}, [], False
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
