"""A hub on the loopback interface: takes models from huggingface_hub and gives files back; keeps what it was told."""

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What the fake hub holds.

    Attributes:
        token: The only token that it takes.
        files: Repository to its files.
        objects: Large files by SHA-256.
        requests: Method and path of every request.
        private: Repository to whether it was made private.
        endpoint: Its address.
    """

    token: str = "hf_secret_of_a_test"
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    private: dict[str, bool] = field(default_factory=dict)
    endpoint: str = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        del format, args

    def _answer(self, body: object, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        repository, _, rest = self.path.lstrip("/").partition("/resolve/main/")
        content = self.hub.files.get(repository, {}).get(rest)
        if content is None:
            self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return
        digest = hashlib.sha256(content).hexdigest()
        self._answer(content, ETag=f'"{digest}"', X_Repo_Commit="0" * 40)

    def do_PUT(self) -> None:
        self.hub.requests.append(f"PUT {self.path}")
        self.hub.objects[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        self.hub.requests.append(f"POST {self.path}")
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}" and "validate" not in self.path:
            self._answer({"error": f"Invalid token {self.headers.get('Authorization')}"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.hub.files.setdefault(name, {})
            self.hub.private[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
            self._answer({"url": f"{self.hub.endpoint}/{name}"})
        elif "/preupload/" in self.path:
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                | {"shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._answer({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                o | {"actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self._commit(self.path.split("/api/models/")[1].split("/commit/")[0], body)
        else:
            self._answer({})

    def _commit(self, repository: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.hub.files[repository][line["value"]["path"]] = b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[repository][line["value"]["path"]] = self.hub.objects[line["value"]["oid"]]
        address = f"{self.hub.endpoint}/{repository}/commit/{'0' * 40}"
        self._answer({"commitUrl": address, "commitOid": "0" * 40, "pullRequestUrl": None})


@contextmanager
def fake_hub() -> Iterator[Hub]:
    """Run a hub on a free loopback port while inside."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
