"""The dataset service's routes; every path is written without its last slash."""

from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from hearth_contracts.datasets import Dataset
from minio import Minio

from hearth_dataset import store
from hearth_dataset.api.streaming import stream_to
from hearth_dataset.config import DatasetSettings
from hearth_dataset.multipart import FilePart

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
        content_type = request.headers.get("content-type", "")
        return await stream_to(
            request, lambda pieces: store.ingest(s3, settings, FilePart(content_type), pieces, description)
        )

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
