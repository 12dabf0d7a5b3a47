"""The dataset service's routes; every path is written without its last slash."""

import asyncio
import queue
from collections.abc import Iterator
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import BadRequest
from minio import Minio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hearth_dataset import store
from hearth_dataset.config import DatasetSettings

PIECES_AHEAD = 16
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
FILE = {200: {"content": {"application/jsonl": {"schema": {"type": "string", "format": "binary"}}}}}


def routes(s3: Minio, settings: DatasetSettings) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/datasets", tags=["Datasets"])

    @router.get("", summary="List all available datasets")
    def list_all() -> list[Dataset]:
        return store.list_all(s3)

    @router.post("/upload", summary="Upload new dataset file", openapi_extra=FORM)
    async def upload(
        request: Request, description: str | None = Query(default=None, description="dataset description")
    ) -> Dataset:
        """One conversation a line: `messages` (OpenAI) or `conversations` (ShareGPT). Checked while it streams in."""
        pieces = Pieces()
        content_type = request.headers.get("content-type", "")

        def take() -> Dataset:
            try:
                return store.ingest(s3, settings, content_type, description, pieces.iterate())
            finally:
                pieces.close()

        taking = asyncio.ensure_future(run_in_threadpool(take))
        try:
            async for piece in request.stream():
                await run_in_threadpool(pieces.put, piece)
            await run_in_threadpool(pieces.put, None)
        except ClientDisconnect:
            await run_in_threadpool(pieces.put, BadRequest("the upload was cut off by its client"))
        return await taking

    @router.get("/{dataset_id}", summary="Download dataset", response_class=Response, responses=FILE)  # type: ignore[arg-type]
    def download(dataset_id: str, request: Request) -> Response:
        dataset = store.find(s3, dataset_id)
        headers = {
            "Content-Length": str(dataset.bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(dataset.name)}",
            "ETag": f'"{dataset.sha256}"',
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers={"ETag": headers["ETag"]})
        return StreamingResponse(store.read_rows(s3, dataset), headers=headers, media_type="application/jsonl")

    @router.get("/{dataset_id}/metadata", summary="What is known of a dataset")
    def metadata(dataset_id: str) -> Dataset:
        return store.find(s3, dataset_id)

    @router.delete("/{dataset_id}", status_code=204, summary="Delete a dataset")
    def delete(dataset_id: str) -> None:
        store.delete(s3, dataset_id)

    return router


class Pieces:
    """A bounded queue between the event loop that receives and the thread that checks and stores."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(PIECES_AHEAD)
        self._closed = False

    def put(self, piece: bytes | Exception | None) -> None:
        """Hand over a piece, None for the end, or why there will be no more; waits while the reader is behind."""
        while not self._closed:
            try:
                self._queue.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue

    def iterate(self) -> Iterator[bytes]:
        """The pieces, in order. Raises what was handed over instead of one."""
        while (piece := self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        """The reader wants no more: whoever puts is let go."""
        self._closed = True
