"""OpenAI's files: a thin face on the datasets, for `client.files` of any OpenAI client.

A file is a dataset: `file-<dataset id>`. What is uploaded here is listed under /v1/datasets/ and the other way round.
"""

from enum import StrEnum
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from hearth_contracts.base import Frozen
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import BadRequest, Invalid, NotFound
from hearth_contracts.openai import OpenAIError, Page, dataset_id_of, file_id, page_at, page_cut
from redis import Redis

from hearth_dataset.api.download import CONTENT, download
from hearth_dataset.api.streaming import stream_to
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.ingest import ingest_form
from hearth_dataset.multipart import FilePart
from hearth_dataset.usage import delete_unused

PURPOSE: Literal["fine-tune"] = "fine-tune"
FAULTS_TOLD = 5
MOST_LISTED = 10_000
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAIError, "description": "OpenAI's error object"},
    "5XX": {"model": OpenAIError, "description": "OpenAI's error object"},
}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                    },
                }
            }
        },
    }
}


class Order(StrEnum):
    """By time of upload."""

    ASC = "asc"  # oldest first
    DESC = "desc"  # newest first


class File(Frozen):
    """OpenAI's file object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: Literal["fine-tune"] = PURPOSE
    status: Literal["processed"] = "processed"  # what does not pass the checks is not stored
    status_details: str | None = None


class FileDeleted(Frozen):
    """What a deletion answers."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def _file(dataset: Dataset) -> File:
    return File(
        id=file_id(dataset.id),
        bytes=dataset.bytes,
        created_at=int(dataset.created_at.timestamp()),
        filename=dataset.name,
    )


def routes(catalogue: Catalogue, redis: Redis, settings: DatasetSettings) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/files", tags=["OpenAI-like API"], responses=ERRORS)

    def find(given: str) -> Dataset:
        dataset_id = dataset_id_of(given)
        try:
            if dataset_id is not None:
                return catalogue.find(dataset_id)
        except NotFound:
            pass
        raise NotFound(f"No such File object: {given}", param="id")

    @router.post("", summary="Upload a file to fine-tune with", openapi_extra=FORM)
    async def create(request: Request) -> File:
        kind = request.headers.get("content-type", "")
        try:
            dataset = await stream_to(
                request,
                lambda pieces: ingest_form(catalogue, settings, FilePart(kind), pieces, check_form=_check_purpose),
            )
        except Invalid as refusal:
            raise _as_openai(refusal) from None
        return _file(dataset)

    @router.get("", summary="List files")
    def list_all(
        purpose: str | None = None,
        limit: int = Query(default=MOST_LISTED, ge=1, le=MOST_LISTED),
        order: Order = Order.DESC,
        after: str | None = Query(default=None, description="the last id of the page before"),
    ) -> Page[File]:
        found = catalogue.usable() if purpose in (None, PURPOSE) else []
        if order is Order.ASC:
            found.reverse()
        ids = [file_id(each.id) for each in found]
        cut = page_cut(ids, after=after, limit=limit)
        return page_at([_file(Dataset.model_validate_json(each.line)) for each in found[cut]], ids, cut)

    @router.get("/{file_id}", summary="What is known of a file")
    def retrieve(file_id: str) -> File:
        return _file(find(file_id))

    @router.get("/{file_id}/content", summary="Download a file", response_class=Response, responses=CONTENT)
    def content(file_id: str, request: Request) -> Response:
        return download(catalogue.s3, find(file_id), request)

    @router.delete("/{file_id}", summary="Delete a file")
    def delete(file_id: str) -> FileDeleted:
        delete_unused(catalogue, redis, find(file_id))
        return FileDeleted(id=file_id)

    return router


def _check_purpose(part: FilePart) -> None:
    purpose = part.fields.get("purpose")
    if purpose != PURPOSE:
        raise BadRequest(f"`purpose` is {purpose!r}; files here are for {PURPOSE!r} alone", param="purpose")


def _as_openai(refusal: Invalid) -> Invalid:
    """OpenAI's error has one message and no list: the first faults go into it."""
    shown = [f"{' '.join(str(part) for part in fault.loc)}: {fault.msg}" for fault in refusal.faults or []]
    more = f" (and {len(shown) - FAULTS_TOLD} more)" if len(shown) > FAULTS_TOLD else ""
    message = ": ".join(part for part in (refusal.detail, "; ".join(shown[:FAULTS_TOLD]) + more) if part)
    return Invalid(message, param="file", code="invalid_file" if shown else None)
