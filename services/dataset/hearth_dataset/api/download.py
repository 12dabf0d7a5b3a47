"""A dataset's rows as a file that can be fetched whole, in parts, or not again."""

from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import HearthError
from hearth_storage.datasets import stream_rows
from minio import Minio

from hearth_dataset.ranges import Span, Unsatisfiable, matches, wanted

_FILE = {"application/jsonl": {"schema": {"type": "string", "format": "binary"}}}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "the whole file", "content": _FILE},
    206: {"description": "the bytes that `Range` asks for", "content": _FILE},
    304: {"description": "`If-None-Match` names the version that there is"},
    416: {"description": "`Range` begins past the end of the file"},
}


class OutOfRange(HearthError):
    """The range begins past the end."""

    status = 416


def download(s3: Minio, dataset: Dataset, request: Request) -> Response:
    """The rows, as `Range`, `If-Range` and `If-None-Match` ask. Raises OutOfRange."""
    etag = f'"{dataset.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(dataset.name)}",
        "ETag": etag,
    }
    if matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers={"ETag": etag})
    try:
        span = wanted(dataset.bytes, etag, request.headers.get("range"), request.headers.get("if-range"))
    except Unsatisfiable:
        raise OutOfRange(f"the file has {dataset.bytes} bytes; the range begins past its end") from None
    status = 200 if span is None else 206
    if span is None:
        span = Span(0, dataset.bytes)
    else:
        headers["Content-Range"] = span.content_range(dataset.bytes)
    rows = stream_rows(s3, dataset, span.start, span.length)
    headers["Content-Length"] = str(span.length)
    return StreamingResponse(rows, status, headers, media_type="application/jsonl")
