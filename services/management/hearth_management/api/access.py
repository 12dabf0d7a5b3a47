"""Routes of API keys, usage and the audit log."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from hearth_access.audit_store import AuditStore
from hearth_access.key_store import KeyStore
from hearth_contracts.access import ApiKey, AuditEntry, KeyChange, KeyRequest, NewKey, UsageRow
from pydantic import BeforeValidator

from hearth_management import access
from hearth_management.services import Services

MOST_ENTRIES = 1000
KeyFilter = Annotated[str | None, Query(description="a key's id")]

# Not pydantic's own reading, for which 0 is the first of January 1970.
Day = Annotated[date, BeforeValidator(lambda given: date.fromisoformat(given) if isinstance(given, str) else given)]


def access_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["Access"])
    redis = services.redis

    @router.post("/keys", status_code=201, summary="Make an API key; its secret is shown this once")
    def create(request: KeyRequest) -> NewKey:
        return access.create_key(redis, request)

    @router.get("/keys", summary="List API keys, newest first, revoked ones too")
    def list_all() -> list[ApiKey]:
        return KeyStore(redis).all()

    @router.patch("/keys/{key_id}", summary="Change an API key's name, limits, models or expiry")
    def change(key_id: str, wanted: KeyChange) -> ApiKey:
        return access.change_key(redis, key_id, wanted)

    @router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key: within a second it opens nothing")
    def revoke(key_id: str) -> None:
        access.revoke_key(redis, key_id)

    @router.get("/usage", summary="Tokens and requests by day, key and model; users see their own")
    def usage(
        key: KeyFilter = None,
        model: Annotated[str | None, Query(description="a model, by the name it was asked by")] = None,
        first: Annotated[Day | None, Query(alias="from", description="first day, UTC; 30 days by default")] = None,
        last: Annotated[Day | None, Query(alias="to", description="last day, UTC; today by default")] = None,
    ) -> list[UsageRow]:
        return access.used(redis, first, last, key, model)

    @router.get("/audit", summary="Who changed what, newest first")
    def audit(
        key: KeyFilter = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
    ) -> list[AuditEntry]:
        return AuditStore(redis).newest(limit, key)

    return router
