"""Uploads in parts; every path is written without its last slash."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request
from hearth_contracts.datasets import Dataset
from hearth_contracts.uploads import NewUpload, PartUrl, Upload, UploadPart

from hearth_dataset.api.streaming import stream_to
from hearth_dataset.catalogue import PRIVATE
from hearth_dataset.uploads import MOST_PARTS, Uploads

BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
Number = Annotated[int, Path(ge=1, le=MOST_PARTS)]
Count = Annotated[int, Body(embed=True, ge=1, le=MOST_PARTS, description="how many parts the file was cut into")]


def routes(uploads: Uploads) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/datasets/uploads", tags=["Datasets"])

    @router.post("", status_code=201, summary="Begin an upload in parts")
    def begin(asked: NewUpload) -> Upload:
        """For files too big for one request, and for networks that break: what has arrived need not be sent again."""
        return uploads.begin(asked)

    @router.get("/{upload_id}", summary="What has arrived of an upload")
    def find(upload_id: str) -> Upload:
        return uploads.find(upload_id)

    @router.put("/{upload_id}/parts/{number}", summary="Send a part", openapi_extra=BYTES)
    async def put_part(upload_id: str, number: Number, request: Request) -> UploadPart:
        """In any order, several at once, and again where it broke: a part has arrived whole or not at all."""
        return await stream_to(request, lambda pieces: uploads.put_part(upload_id, number, pieces))

    @router.get("/{upload_id}/parts/{number}/url", summary="Where to send a part straight to S3")
    def part_url(upload_id: str, number: Number) -> PartUrl:
        """A presigned URL to PUT the part to, where S3 has an address that clients reach; else 409."""
        return uploads.part_url(upload_id, number)

    @router.post("/{upload_id}/complete", summary="Make a dataset of the parts", response_model_exclude=PRIVATE)
    def complete(upload_id: str, parts: Count) -> Dataset:
        """Checks the whole file as an upload in one request does. Safe to ask again."""
        return uploads.complete(upload_id, parts)

    @router.delete("/{upload_id}", status_code=204, summary="Give an upload up")
    def give_up(upload_id: str) -> None:
        uploads.give_up(upload_id)

    return router
