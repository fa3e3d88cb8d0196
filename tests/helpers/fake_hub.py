"""A Hugging Face hub on this machine: the part of its protocol that lorae uses."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files; `refuses` is the status of all answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.refuses: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self) -> bool:
        if self.server.refuses is not None:
            self.answer(self.server.refuses)
        return self.server.refuses is not None

    def do_GET(self) -> None:
        if self.refuse():
            return
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        files = self.server.repositories.get(repository)
        if files is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif file not in files:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            etag = hashlib.sha256(files[file]).hexdigest()
            self.answer(200, files[file], ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuse():
            return
        name, _, action = (
            self.path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
        )
        if self.path == "/api/repos/create":
            self.answer_json(self.create(json.loads(body)))
        elif self.path == "/api/validate-yaml":  # of the model card
            self.answer_json({"warnings": [], "errors": []})
        elif action == "preupload":
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            files = json.loads(body)["files"]
            self.answer_json({"files": [{"path": file["path"]} | mode for file in files]})
        elif action == "commit":
            self.commit(name, [json.loads(line) for line in body.splitlines()])
            address = f"{self.server.address}/{name}/commit/{COMMIT}"
            self.answer_json({"commitUrl": address, "commitOid": COMMIT})
        else:
            self.answer(404)

    def create(self, asked: dict) -> dict[str, str]:
        name = f"{asked['organization']}/{asked['name']}"
        self.server.repositories.setdefault(name, {})
        # Version 2 of the client renamed the field.
        self.server.private[name] = asked.get("visibility") == "private" or asked.get("private")
        return {"url": f"{self.server.address}/{name}"}

    def commit(self, name: str, parts: list[dict]) -> None:
        files = [part["value"] for part in parts if part["key"] == "file"]
        for file in files:
            self.server.repositories[name][file["path"]] = base64.b64decode(file["content"])


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def serve(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let the client use the hub at an address, and retry without delay."""
    from huggingface_hub import constants

    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A hub that the package huggingface-hub uses instead of the real one, and an empty cache."""
    from huggingface_hub import constants

    with serving() as found:
        serve(monkeypatch, found.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", "a-token")
        yield found
