"""The dataset service's routes; every path is written without its last slash."""

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from hearth_contracts.datasets import Dataset
from hearth_contracts.preview import Preview
from redis import Redis

from hearth_dataset.api.download import CONTENT, download
from hearth_dataset.api.streaming import stream_to
from hearth_dataset.catalogue import PRIVATE, Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.ingest import ingest_form
from hearth_dataset.multipart import FilePart
from hearth_dataset.preview import preview, read_cursor
from hearth_dataset.usage import delete_unused

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


def routes(catalogue: Catalogue, redis: Redis, settings: DatasetSettings) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/datasets", tags=["Datasets"])

    @router.get("", summary="List all available datasets", response_model=list[Dataset])
    def list_all() -> Response:
        return Response(b"[%s]" % b",".join(each.line for each in catalogue.usable()), media_type="application/json")

    @router.post("/upload", summary="Upload new dataset file", openapi_extra=FORM, response_model_exclude=PRIVATE)
    async def upload(
        request: Request, description: str | None = Query(default=None, description="dataset description")
    ) -> Dataset:
        """JSON lines in one of seven formats, found by looking; also as gzip, zstd or Parquet.

        Checked while it streams in: a file with a bad line is refused with the line, the field and the reason.
        """
        content_type = request.headers.get("content-type", "")
        return await stream_to(
            request, lambda pieces: ingest_form(catalogue, settings, FilePart(content_type), pieces, description)
        )

    @router.get("/{dataset_id}", summary="Download dataset", response_class=Response, responses=CONTENT)
    def whole(dataset_id: str, request: Request) -> Response:
        """The rows as JSON lines, whatever the file came as. Takes `Range`, `If-Range` and `If-None-Match`."""
        return download(catalogue.s3, catalogue.find(dataset_id), request)

    @router.get("/{dataset_id}/metadata", summary="What is known of a dataset", response_model_exclude=PRIVATE)
    def metadata(dataset_id: str) -> Dataset:
        return catalogue.find(dataset_id)

    @router.get("/{dataset_id}/preview", summary="Some rows of a dataset, as they are understood")
    def some_rows(
        dataset_id: str,
        limit: int = Query(default=10, ge=1, le=100),
        cursor: str | None = Query(default=None, description="the `next` of the page before"),
    ) -> Preview:
        """Conversations, preference pairs or texts, whatever the format."""
        return preview(catalogue.s3, catalogue.find(dataset_id), read_cursor(cursor), limit)

    @router.delete("/{dataset_id}", status_code=204, summary="Delete a dataset")
    def delete(dataset_id: str) -> None:
        """Refused with 409 while a fine-tune that uses it is queued or running."""
        delete_unused(catalogue, redis, catalogue.find(dataset_id))

    return router
