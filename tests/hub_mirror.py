"""A small server on loopback that speaks as much of the hub's protocol as downloading and uploading models takes."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by name: a folder of files, or the error code that the hub answers with. `break_after`: bytes after which the next
    answer that long is broken off. `asked`: method, path and range of every request."""

    repositories: dict[str, Path | str] = field(default_factory=dict)
    break_after: int | None = None
    free_uploads: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    url: str = ""


STATUS = {"GatedRepo": 403, "RepoNotFound": 401, "RevisionNotFound": 404, "": 500}


def handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.asked.append(("POST", self.path, ""))
            if not hub.free_uploads:
                return self._error("RepoNotFound")
            if self.path.startswith("/api/repos/create"):
                return self._json({"url": f"{hub.url}/someone/{json.loads(data)['name']}", "id": "someone/" + json.loads(data)["name"]})
            if "/preupload/" in self.path:
                files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(data)["files"]]
                return self._json({"files": files})
            if "/commit/" not in self.path:
                return self._json({})
            for line in data.splitlines():
                part = json.loads(line)
                if part["key"] == "file":
                    hub.uploaded[part["value"]["path"]] = base64.b64decode(part["value"]["content"])
            return self._json({"commitUrl": f"{hub.url}/someone/mine/commit/{COMMIT}", "commitOid": COMMIT, "success": True})

        def _answer(self, body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            if about := re.match(r"/api/models/([^/]+/[^/?]+)(?:/revision/([^?]+))?", self.path):
                return self._about(about[1], about[2])
            if wanted := re.match(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
                return self._file(wanted[1], wanted[3], body)
            return self._error("RepoNotFound")

        def _about(self, name: str, revision: str | None) -> None:
            found = hub.repositories.get(name, "RepoNotFound")
            if isinstance(found, str):
                return self._error(found)
            if revision not in (None, "main", COMMIT):
                return self._error("RevisionNotFound")
            files = [{"rfilename": path.name, "size": path.stat().st_size, **self._lfs(path)} for path in sorted(found.iterdir())]
            return self._json({"_id": "1", "id": name, "sha": COMMIT, "private": False, "gated": False, "siblings": files})

        @staticmethod
        def _lfs(path: Path) -> dict[str, object]:
            if path.suffix == ".json":
                return {}
            data = path.read_bytes()
            return {"lfs": {"sha256": sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}

        def _file(self, name: str, file: str, body: bool) -> None:
            found = hub.repositories.get(name, "RepoNotFound")
            if isinstance(found, str) or not (found / file).is_file():
                return self._error(found if isinstance(found, str) else "EntryNotFound")
            data = (found / file).read_bytes()
            start, end = 0, len(data) - 1
            if part := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start, end = int(part[1]), min(int(part[2] or end), end)
            self.send_response(206 if part else 200)
            self.send_header("ETag", f'"{sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end + 1 - start))
            if part:
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            self.end_headers()
            if body:
                self._send(data[start : end + 1])

        def _send(self, data: bytes) -> None:
            if hub.break_after is not None and len(data) > hub.break_after:
                data, hub.break_after, self.close_connection = data[: hub.break_after], None, True
            self.wfile.write(data)

        def _json(self, answer: object) -> None:
            self._plain(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _error(self, code: str) -> None:
            headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
            self._plain(STATUS.get(code, 404), b"{}", headers)

        def _plain(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
