"""A Hub on this machine: what huggingface_hub asks of the real one to make a model, upload to it and fetch it.

Weights go by Git LFS, as from a machine without hf_xet: in one piece, or in parts where they are larger than `PART`.
With a folder in `xet` they go by Xet, whose own client then writes into that folder and not to a server: such weights
cannot be fetched back. What is uploaded is checked: parts, sizes, hashes, that no commit names what is not there.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import yaml

TOKEN = "hf_mine"
PART = 1_000_000
LFS = ("*.safetensors", "*.bin")


@dataclass
class Repository:
    """A model: branches, and what each commit holds."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    parents: dict[str, str | None] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.parents[sha] = self.branches.get(branch)
        self.branches[branch], self.commits[sha] = sha, files
        self.messages.append(message)
        return sha

    def request(self, files: dict[str, bytes], *, title: str, author: str, status: str = "open") -> int:
        """Open a pull request that adds files to what is on main; return its number."""
        number = len(self.requests) + 1
        branch = f"refs/pr/{number}"
        self.branches[branch] = self.branches["main"]
        self.commit(branch, self.commits[self.branches["main"]] | files, title)
        self.requests.append({"num": number, "title": title, "status": status, "author": {"name": author}})
        return number

    def at(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class FakeHub(http.server.ThreadingHTTPServer):
    """The server, and all that it knows.

    Attributes:
        models: The models, by name.
        owners: Who may be written to with `TOKEN`.
        asked: Every request, `METHOD path`.
        xet: A folder for what goes by Xet.
        answers: `METHOD pattern` -> what is answered in its place: a status, the server's words, and headers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, Repository] = {}
        self.owners = {"ada"}
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.xet: Path | None = None
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def make(self, name: str, *, private: bool = False, files: dict[str, bytes] | None = None) -> Repository:
        self.models[name] = made = Repository(private)
        made.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})}, "initial commit")
        return made

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.models[name]
        return repository.commits[repository.branches[revision]]


@contextmanager
def running() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def ask_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub ask this address, where it is imported already, and without a token of the environment."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # newer versions look into the first, older the second
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, words: str, code: str | None = None) -> None:
        super().__init__(words)
        self.status, self.words, self.code = status, words, code


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: FakeHub
    body: bytes

    def answer(self) -> None:
        self.body = self.read()
        path = urlsplit(self.path).path
        asked = f"{self.command} {unquote(path)}"
        with self.server.lock:
            self.server.asked.append(asked)
            try:
                for pattern, (status, words, headers) in self.server.answers.items():
                    if fnmatch.fnmatch(asked, pattern):
                        return self.send(status, {"error": words}, headers)
                for pattern, method in ROUTES:
                    if found := re.fullmatch(pattern, f"{self.command} {path}"):
                        return method(self, *map(unquote, found.groups()))
                raise Refusal(404, f"no such page: {asked}")
            except Refusal as refusal:
                code = {"X-Error-Code": refusal.code} if refusal.code else {}
                self.send(refusal.status, {"error": refusal.words}, {"X-Error-Message": refusal.words, **code})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, content in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def may_write(self, name: str) -> None:
        if self.token != TOKEN:
            raise Refusal(401, "Invalid username or password.")
        if name.partition("/")[0] not in self.server.owners:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {name!r}")

    def model(self, name: str, *, write: bool = False) -> Repository:
        found = self.server.models.get(name)
        if found is None or (found.private and self.token != TOKEN):
            raise Refusal(401 if self.token is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(name)
        return found

    def commit_of(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.model(name)
        sha = repository.at(revision)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha, repository.commits[sha]

    # what it is asked

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization'] or 'ada'}/{asked['name']}"
        self.may_write(name)
        if name in self.server.models:
            raise Refusal(409, "You already created this model repo")
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.make(name, private=private)
        self.send(200, {"url": f"{self.server.url}/{name}", "name": name})

    def info(self, name: str, revision: str = "main") -> None:
        sha, files = self.commit_of(name, revision)
        sized = "blobs" in dict(parse_qsl(urlsplit(self.path).query))
        siblings = [{"rfilename": n} | ({"size": len(content)} if sized else {}) for n, content in files.items()]
        private = self.server.models[name].private
        card = re.match(rb"---\n(.*?)\n---", files.get("README.md", b""), re.DOTALL)
        config = json.loads(files.get("config.json", b"{}"))
        known = {key: config[key] for key in ("architectures", "model_type") if key in config}
        about = {"cardData": yaml.safe_load(card[1]) if card else None, "config": known}
        self.send(200, {"id": name, "modelId": name, "sha": sha, "private": private, "siblings": siblings, **about})

    def tree(self, name: str, revision: str) -> None:
        _, files = self.commit_of(name, revision)
        self.send(200, [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()])

    def history(self, name: str, revision: str) -> None:
        repository = self.model(name)
        sha: str | None = self.commit_of(name, revision)[0]
        commits = []
        while sha is not None:
            commits.append({"id": sha, "authors": [], "date": DATE, "title": "", "message": ""})
            sha = repository.parents[sha]
        self.send(200, commits)

    def discussions(self, name: str) -> None:
        wanted = dict(parse_qsl(urlsplit(self.path).query))
        known = {"createdAt": DATE, "repo": {"name": name, "type": "model"}, "isPullRequest": True}
        found = [
            request | known
            for request in self.model(name).requests
            if wanted.get("author") in (None, request["author"]["name"]) and wanted["status"] == request["status"]
        ]
        self.send(200, {"discussions": found, "count": len(found), "start": 0})

    def moved(self, name: str, rest: str = "") -> None:
        """A model that once had no owner."""
        full = next((full for full in self.server.models if full.endswith(f"/{name}")), None)
        if full is None:
            raise Refusal(401 if self.token is None else 404, "Repository not found", "RepoNotFound")
        path = urlsplit(self.path).path.replace(f"/{name}", f"/{full}", 1)
        self.send(307, b"", {"Location": path})

    def branch(self, name: str, branch: str) -> None:
        repository = self.model(name, write=True)
        if branch in repository.branches:
            raise Refusal(409, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self.send(200, {})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        block = re.match(r"\s*---\n(.*?)\n---[ \t]*(?:\n|\Z)", text, re.DOTALL)
        values = yaml.safe_load(block[1]) if block else None
        errors = [
            {"message": f'"{key}" must be a string'}
            for key in ("library_name", "pipeline_tag")
            if not isinstance(values, dict) or not isinstance(values.get(key), str)
        ]
        results = [result for index in (values or {}).get("model-index", []) for result in index["results"]]
        if not all({"type", "name"} <= result["dataset"].keys() and result["metrics"] for result in results):
            errors.append({"message": '"model-index" is not as it should be'})
        self.send(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        _, files = self.commit_of(name, revision)
        self.may_write(name)
        answers = []
        for file in json.loads(self.body)["files"]:
            big = any(fnmatch.fnmatch(file["path"], pattern) for pattern in LFS)
            old = files.get(file["path"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if big else git_hash(old)
            mode = "lfs" if big else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send(200, {"files": answers})

    def batch(self, name: str) -> None:
        self.model(name, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            href, header = f"{self.server.url}/lfs/{oid}", {}
            if size > PART:
                count = -(-size // PART)
                header = {"chunk_size": str(PART)} | {str(i + 1): f"{href}/{i + 1}" for i in range(count)}
                href += "/complete"
            actions = {
                "upload": {"href": href, "header": header},
                "verify": {"href": f"{self.server.url}/lfs/{oid}/verify"},
            }
            objects.append({"oid": oid, "size": size} | ({} if oid in self.server.blobs else {"actions": actions}))
        self.send(200, {"transfer": "basic", "objects": objects})

    def xet_token(self, name: str, revision: str) -> None:
        self.model(name, write=True)
        headers = {
            "X-Xet-Cas-Url": f"local://{self.server.xet}",
            "X-Xet-Access-Token": "xet",
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }
        url, token, until = headers.values()
        self.send(200, {"casUrl": url, "accessToken": token, "exp": int(until)}, headers)

    def put(self, oid: str, part: str | None = None) -> None:
        if part is None:
            self.store(oid, self.body)
        else:
            self.server.parts.setdefault(oid, {})[int(part)] = self.body
        self.send(200, {}, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def complete(self, oid: str) -> None:
        parts = self.server.parts.pop(oid)
        tags = {part: f'"{hashlib.md5(content).hexdigest()}"' for part, content in parts.items()}
        if {part["partNumber"]: part["etag"] for part in json.loads(self.body)["parts"]} != tags:
            raise Refusal(400, "the parts are not those that were sent")
        self.store(oid, b"".join(content for _, content in sorted(parts.items())))
        self.send(200, {})

    def store(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "the content is not that of its hash")
        self.server.blobs[oid] = content

    def verify(self, oid: str) -> None:
        if len(self.server.blobs.get(oid, b"")) != json.loads(self.body)["size"]:
            raise Refusal(400, "the size is another")
        self.send(200, {})

    def commit(self, name: str, revision: str) -> None:
        repository = self.model(name, write=True)
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        assert header["key"] == "header"
        if revision not in repository.branches:
            raise Refusal(400, f"{revision} is no branch")
        if header["value"].get("parentCommit", repository.branches[revision]) != repository.branches[revision]:
            raise Refusal(412, "The branch has moved: a commit has happened since")
        files = dict(repository.commits[repository.branches[revision]])
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                pointer = f"oid sha256:{value['oid']}\nsize {value['size']}\n".encode()
                files[value["path"]] = pointer if self.server.xet else self.server.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refusal(400, f"what is {operation['key']}?")
        sha = repository.commit(revision, files, header["value"]["summary"])
        self.send(200, {"commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def resolve(self, name: str, revision: str, file: str) -> None:
        sha, files = self.commit_of(name, revision)
        if file not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        content = files[file]
        self.send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha})


DATE = "2023-03-01T12:00:00.000Z"
NAME = r"([\w.-]+/[\w.-]+)"
OLD = r"([\w.]+-[\w.-]+)"
ROUTES: list[tuple[str, Any]] = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"GET /api/models/{NAME}", Handler.info),
    (rf"GET /api/models/{NAME}/revision/([^/]+)", Handler.info),
    (rf"GET /api/models/{NAME}/tree/([^/]+)", Handler.tree),
    (rf"GET /api/models/{NAME}/commits/([^/]+)", Handler.history),
    (rf"GET /api/models/{NAME}/discussions", Handler.discussions),
    (rf"GET /api/models/{OLD}", Handler.moved),
    (rf"GET /api/models/{OLD}/((?:revision|tree|commits)/.+)", Handler.moved),
    (rf"(?:GET|HEAD) /{OLD}/(resolve/.+)", Handler.moved),
    (rf"POST /api/models/{NAME}/branch/([^/]+)", Handler.branch),
    (rf"POST /api/models/{NAME}/preupload/([^/]+)", Handler.preupload),
    (rf"POST /api/models/{NAME}/commit/([^/]+)", Handler.commit),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (rf"GET /api/models/{NAME}/xet-write-token/([^/]+)", Handler.xet_token),
    (r"PUT /lfs/(\w+)", Handler.put),
    (r"PUT /lfs/(\w+)/(\d+)", Handler.put),
    (r"POST /lfs/(\w+)/complete", Handler.complete),
    (r"POST /lfs/(\w+)/verify", Handler.verify),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
