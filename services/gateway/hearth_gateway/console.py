"""The console: a page at the root and its files under /console/, static, the same for everybody.

It holds no secret and asks for no key; what it shows it gets from the API, with the key of whoever looks at it.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.datastructures import Headers
from starlette.responses import Response

PAGE = "index.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked for again each time: an ETag answers in a few bytes
    "Vary": "Accept-Encoding",
}
"""No script but our files, nothing from elsewhere, in nobody's frame: keys are typed into this page."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    media_type: str
    etag: str


class Console:
    """The files, read once. They are found by their exact names, so no path leads out of their folder."""

    def __init__(self) -> None:
        self._files = dict(_read(files("hearth_gateway") / "console", ""))

    def answer(self, name: str, asked: Headers) -> Response | None:
        """The file of that name, or that it has not changed; None where there is none."""
        file = self._files.get(name)
        if file is None:
            return None
        headers = HEADERS | {"ETag": file.etag}
        if file.etag in (each.strip().removeprefix("W/") for each in asked.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        if "gzip" in asked.get("accept-encoding", ""):
            return Response(file.packed, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})
        return Response(file.body, media_type=file.media_type, headers=headers)


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        else:
            found.append((f"{prefix}{entry.name}", _file(entry)))
    return found


def _file(entry: Traversable) -> _File:
    body = entry.read_bytes()
    kind = "text/javascript" if entry.name.endswith((".js", ".mjs")) else mimetypes.guess_type(entry.name)[0]
    return _File(body, gzip.compress(body, mtime=0), kind or "text/plain", f'"{hashlib.sha256(body).hexdigest()[:32]}"')
