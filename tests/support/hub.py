"""A small server that speaks as much of the Hugging Face hub's HTTP as the real `huggingface_hub` needs to download.

It serves a folder of models, `<root>/<org>/<name>/<files>`, read at each request, so a test may add models at any time:

    with HubServer(root) as hub:
        snapshot_download("acme/tiny", endpoint=hub.url)      # or HF_ENDPOINT=hub.url in a child process

It answers a search by name, model info (`?blobs=true` too), the tree listing, and `resolve` with HEAD, GET, ETag and
Range; unknown, gated and missing things as the hub does. It never announces Xet storage, so the client downloads over
plain HTTP even where `hf-xet` is installed.

Faults are attributes, to be switched at any time: `gated`, `bytes_per_second`, and `cut_once`.
What was asked is in `requests`, in order of arrival.

As a script: `python tests/support/hub.py ROOT [--port N]` serves until interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_CHUNK = 64 * 1024  # bytes written at a time
_LFS = (
    ".safetensors",
    ".gguf",
    ".bin",
)  # the hub keeps these in LFS: their ETag is their sha256
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class _Refusal(Exception):
    """An answer as the hub gives it: a status and its own `X-Error-Code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _CutError(Exception):
    """Raised inside a body to make the server close the connection before the promised length was sent."""


@dataclass
class Hit:
    """One request the server saw, and how many bytes of a file it sent for it."""

    method: str
    path: str  # decoded, without the query
    range: str | None  # the Range header
    authorization: str | None
    status: int = 0
    sent: int = 0  # bytes of the body; 0 for HEAD


@dataclass
class _File:
    """One file of a repository, with the identity the hub would give it."""

    path: str  # inside the repository, with slashes
    size: int  # bytes
    sha256: str
    blob: str  # git's object id
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob


@dataclass
class HubServer:
    """A hub in a thread, on a free port of loopback. `start()`/`stop()`, or a `with` block."""

    root: Path
    host: str = "127.0.0.1"  # another one for those who are not on this machine, as containers are
    port: int = 0  # 0: a free one, known after `start()`
    gated: dict[str, str] = field(default_factory=dict)  # repository -> the bearer token that opens it
    bytes_per_second: int | None = None  # for each response; None: as fast as it goes
    # File name -> bytes to send before ONE cut. The client resumes by itself, a second later, from the last whole
    # portion it wrote (`huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE`, 10 MiB): a smaller file begins again.
    cut_once: dict[str, int] = field(default_factory=dict)
    requests: list[Hit] = field(default_factory=list)
    _digests: dict[tuple[Path, int, int], _File] = field(default_factory=dict, repr=False)
    _server: uvicorn.Server | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    # --- life ---

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` wants."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Begin to listen; returns when the port accepts connections."""
        # The listening socket exists before the thread does: a client that comes early waits in its backlog.
        listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app(),
            log_level="critical",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="hub", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it; connections that still stream are cut after a second."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what a test asks about ---

    def sent(self, name: str) -> int:
        """How many bytes of bodies went out for files whose path ends with `name`."""
        return sum(hit.sent for hit in self.requests if hit.path.endswith(name))

    def commit(self, repo: str) -> str:
        """The repository's revision: changes with any of its files' contents."""
        listing = [(file.path, file.sha256) for file in self._files(repo)]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    # --- HTTP ---

    def app(self) -> Starlette:
        """The ASGI application, for a test that wants to run it elsewhere."""
        repo = "/{org}/{name}"
        return Starlette(
            routes=[
                Route("/api/models", self._handled(self._search)),
                Route(f"/api/models{repo}", self._handled(self._info)),
                Route(
                    f"/api/models{repo}/revision/{{revision}}",
                    self._handled(self._info),
                ),
                Route(f"/api/models{repo}/tree/{{revision}}", self._handled(self._tree)),
                Route(
                    f"{repo}/resolve/{{revision}}/{{path:path}}",
                    self._handled(self._resolve),
                ),
                Route("/{rest:path}", self._handled(self._nothing)),
            ]
        )

    def _handled(
        self, handler: Callable[[Request, Hit], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Record the request, and turn a refusal into the hub's answer."""

        async def handle(request: Request) -> Response:
            headers = request.headers
            hit = Hit(
                request.method,
                request.url.path,
                headers.get("range"),
                headers.get("authorization"),
            )
            self.requests.append(hit)
            try:
                response = await handler(request, hit)
            except _Refusal as refusal:
                response = JSONResponse(
                    {"error": refusal.message},
                    status_code=refusal.status,
                    headers={
                        "X-Error-Code": refusal.code,
                        "X-Error-Message": refusal.message,
                    },
                )
            hit.status = response.status_code
            return response

        return handle

    async def _nothing(self, request: Request, hit: Hit) -> Response:
        raise _Refusal(404, "EntryNotFound", f"Sorry, this hub has nothing at {hit.path}.")

    async def _search(self, request: Request, hit: Hit) -> Response:
        """The models whose ids hold the text, as far as `limit` goes."""
        text, limit = request.query_params.get("search", ""), int(request.query_params.get("limit", "1000"))
        repos = sorted(f"{path.parent.name}/{path.name}" for path in self.root.glob("*/*") if path.is_dir())
        return JSONResponse([self._card(repo) for repo in repos if text.lower() in repo.lower()][:limit])

    async def _info(self, request: Request, hit: Hit) -> Response:
        """Model info. A gated repository's card is public on the hub, and so it is here."""
        repo = self._repo(request)
        self._check_revision(request, repo)
        with_blobs = request.query_params.get("blobs", "").lower() in ("1", "true")
        siblings: list[dict[str, Any]] = []
        for file in self._files(repo):
            sibling: dict[str, Any] = {"rfilename": file.path}
            if with_blobs:
                sibling |= {"size": file.size, "blobId": file.blob}
                if file.lfs:
                    sibling["lfs"] = {
                        "size": file.size,
                        "sha256": file.sha256,
                        "pointerSize": 134,
                    }
            siblings.append(sibling)
        return JSONResponse(
            {**self._card(repo), "siblings": siblings, "usedStorage": sum(file.size for file in self._files(repo))}
        )

    def _card(self, repo: str) -> dict[str, Any]:
        """What the hub says of a model without its files."""
        card = _front_matter(self.root / repo / "README.md")
        return {
            "_id": "0",
            "id": repo,
            "modelId": repo,
            "author": repo.partition("/")[0],
            "sha": self.commit(repo),
            "lastModified": self._modified(repo),
            "createdAt": self._modified(repo),
            "private": False,
            "gated": "manual" if repo in self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [f"license:{card['license']}"] if "license" in card else [],
            "cardData": card,
        }

    async def _tree(self, request: Request, hit: Hit) -> Response:
        """The listing that `snapshot_download` reads: every file, recursively, in one page."""
        repo = self._repo(request)
        self._check_revision(request, repo)
        entries: list[dict[str, Any]] = []
        for file in self._files(repo):
            entry: dict[str, Any] = {
                "type": "file",
                "oid": file.blob,
                "size": file.size,
                "path": file.path,
            }
            if file.lfs:
                entry["lfs"] = {
                    "oid": file.sha256,
                    "size": file.size,
                    "pointerSize": 134,
                }
            entries.append(entry)
        return JSONResponse(entries)

    async def _resolve(self, request: Request, hit: Hit) -> Response:
        repo = self._repo(request)
        self._check_gate(request, repo)
        self._check_revision(request, repo)
        path = request.path_params["path"]
        file = next((file for file in self._files(repo) if file.path == path), None)
        if file is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers = {
            "ETag": f'"{file.etag}"',
            "X-Repo-Commit": self.commit(repo),
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
        }
        if file.lfs:
            headers |= {
                "X-Linked-Size": str(file.size),
                "X-Linked-ETag": f'"{file.sha256}"',
            }
        first, last, status = 0, file.size - 1, 200
        if hit.range is not None:
            span = _span(hit.range, file.size)
            if span is None:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{file.size}"})
            (first, last), status = span, 206
            headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        headers["Content-Length"] = str(last - first + 1)
        if request.method == "HEAD":
            return Response(
                status_code=status,
                headers=headers,
                media_type="application/octet-stream",
            )
        body = self._body(self.root / repo / path, first, last, hit)
        return StreamingResponse(
            body,
            status_code=status,
            headers=headers,
            media_type="application/octet-stream",
        )

    async def _body(self, path: Path, first: int, last: int, hit: Hit) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, both included, with the faults that are switched on."""
        cut_after = self.cut_once.pop(path.name, None)
        left = last - first + 1
        with path.open("rb") as stream:
            stream.seek(first)
            while left:
                size = min(_CHUNK, left)
                if self.bytes_per_second is not None:  # ten portions a second
                    size = min(size, max(1, self.bytes_per_second // 10))
                if cut_after is not None:
                    size = min(size, cut_after - hit.sent)
                    if size <= 0:
                        # uvicorn closes the connection of an application that fails after its headers went out.
                        raise _CutError(f"{path.name} cut after {hit.sent} bytes, as the test asked")
                chunk = stream.read(size)
                yield chunk
                left -= len(chunk)
                hit.sent += len(chunk)
                if self.bytes_per_second is not None:
                    await asyncio.sleep(len(chunk) / self.bytes_per_second)

    # --- repositories ---

    def _repo(self, request: Request) -> str:
        """The repository asked for. The hub answers 401, not 404, to a stranger: it may be private."""
        repo = f"{request.path_params['org']}/{request.path_params['name']}"
        if ".." in repo.split("/") or not (self.root / repo).is_dir():
            if "authorization" in request.headers:
                raise _Refusal(404, "RepoNotFound", "Repository not found")
            raise _Refusal(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def _check_gate(self, request: Request, repo: str) -> None:
        token = self.gated.get(repo)
        given = request.headers.get("authorization")
        if token is not None and given != f"Bearer {token}":
            reason = "you are not in the authorized list" if given else "you must be authenticated"
            raise _Refusal(
                403,
                "GatedRepo",
                f"Access to model {repo} is restricted and {reason} to access it.",
            )

    def _check_revision(self, request: Request, repo: str) -> None:
        revision = request.path_params.get("revision", "main")
        if revision not in ("main", self.commit(repo)):
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def _files(self, repo: str) -> list[_File]:
        """The repository's files by path; hidden ones are not part of it. Digests are kept until a file changes."""
        folder = self.root / repo
        found = []
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                stat = path.stat()
                key = (path, stat.st_size, stat.st_mtime_ns)
                if key not in self._digests:
                    self._digests[key] = _identify(path, inside.as_posix())
                found.append(self._digests[key])
        return found

    def _modified(self, repo: str) -> str:
        newest = max((path.stat().st_mtime for path in (self.root / repo).iterdir()), default=0.0)
        return datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _identify(path: Path, inside: str) -> _File:
    """Read the file once for both its digests."""
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(1024 * 1024):
            sha256.update(chunk)
            blob.update(chunk)
    return _File(inside, size, sha256.hexdigest(), blob.hexdigest(), inside.endswith(_LFS))


def _span(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header, or None when the file has no such bytes."""
    match = _RANGE.match(header)
    if match is None or match.group(1) == match.group(2) == "":
        return None
    if match.group(1) == "":
        first, last = max(0, size - int(match.group(2))), size - 1
    else:
        first, last = (
            int(match.group(1)),
            min(int(match.group(2) or size - 1), size - 1),
        )
    return (first, last) if first <= last else None


def _front_matter(readme: Path) -> dict[str, str]:
    """The plain `key: value` lines of a model card's front matter; enough for a licence."""
    if not readme.is_file():
        return {}
    lines = readme.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return {}
    card = {}
    for line in lines[1 : lines.index("---", 1)]:
        key, colon, value = line.partition(":")
        if colon and key.strip() == key and value.strip():
            card[key] = value.strip()
    return card


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Serve a folder of models as a Hugging Face hub would.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bytes-per-second", type=int)
    arguments = parser.parse_args()
    hub = HubServer(arguments.root, port=arguments.port, bytes_per_second=arguments.bytes_per_second)
    with hub:
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
