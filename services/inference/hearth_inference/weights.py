"""The models that a node works with: those in its store, and what management's store has and this one lacks."""

import logging
from dataclasses import dataclass
from pathlib import Path

from hearth_contracts.deploy import DeploymentSpec
from hearth_contracts.models import StoredModel
from hearth_jobs import tallies
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.models import model_of
from hearth_jobs.tallies import Tally
from hearth_models.bring import Order
from hearth_models.fetched import make_room, note_use
from hearth_models.refusals import Refused
from hearth_models.share import shared_model, signed_urls
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import find_model, snapshot_path
from minio import Minio
from minio.error import MinioException
from redis import Redis
from urllib3.exceptions import HTTPError

from hearth_inference.adapters import StoreAway
from hearth_inference.bringing import Bringing, ModelMissing, sweep_orders
from hearth_inference.keeper import Keeper

log = logging.getLogger(__name__)

_DEATHS = 2
"""So often another process goes on for one that died without a word."""


def stored(home: HomeSettings, redis: Redis, model_id: str) -> Path | None:
    """The folder of a model, if it is in this store, and of the revision that management's store has."""
    here, wanted = find_model(home.models, model_id), model_of(redis, model_id)
    if here is None or (wanted is not None and wanted.revision != here.revision):
        return None
    return snapshot_path(home.models, here)


@dataclass
class Weights:
    """Has at most one model on its way, while leases, reports and whatever serves go on. For one thread."""

    home: HomeSettings
    deployments: DeploymentStore
    s3: Minio
    keeper: Keeper
    most_bytes: int  # for all that nodes fetch into this store; 0: as much as the disk has
    bringing: Bringing | None = None
    deaths: int = 0  # of processes that brought it, in a row
    lacks: str = ""  # the model that did not come when it was last tried

    def __post_init__(self) -> None:
        self.redis = self.deployments.redis
        sweep_orders(self.home)

    def stored(self, spec: DeploymentSpec) -> Path | None:
        """The folder of the version's model, if it is here."""
        return stored(self.home, self.redis, spec.model_id)

    def used(self, spec: DeploymentSpec) -> None:
        """An engine runs on the version's model, or did until now."""
        note_use(self.home.models, spec.model_id)

    def have(self, spec: DeploymentSpec) -> Path | None:
        """The folder of the version's model; None while it is on its way, and at the moment when it has come.

        Raises ModelMissing, StoreAway.
        """
        try:
            if self.bringing is not None and self.bringing.spec.model_id == spec.model_id:
                self.bringing.spec = spec  # with other adapters, say
                if self.bringing.is_over:
                    self._see_how_it_ended()
                return None
            self.stop()
            model = self.stored(spec)
            if model is None:
                self._start(spec)
            elif self.lacks == spec.model_id:
                self.lacks = ""
            return model
        except ModelMissing:
            self.lacks = spec.model_id
            raise

    def stop(self) -> None:
        """Let what is on its way come no further."""
        if self.bringing is not None:
            self._ended()

    def _start(self, spec: DeploymentSpec) -> None:
        order = self._order(spec)
        self._make_room(spec, order.model)
        source = "the hub" if order.urls is None else "S3"
        log.info("fetching %s, revision %s, from %s", spec.model_id, order.model.revision, source)
        try:
            self.bringing = Bringing(spec, order, self.home)
        except OSError as error:
            raise ModelMissing(f"{spec.model_id} could not be fetched: {error}") from error
        self.keeper.watch(self.bringing)

    def _make_room(self, spec: DeploymentSpec, model: StoredModel) -> None:
        """Remove what no deployment is for, if that is what it takes. Raises ModelMissing."""
        specs = [each for record in self.deployments.all() for each in (record.desired, record.serving)]
        in_use = {each.model_id for each in specs if each is not None}
        try:
            removed = make_room(self.home.models, model, self.most_bytes, in_use)
        except Refused as refusal:
            raise ModelMissing(str(refusal)) from refusal
        if removed:
            log.info("removed %s, for %s to have room", ", ".join(removed), model.model_id)
            tallies.add(self.redis, spec.name, {Tally.REMOVALS: len(removed)})

    def _see_how_it_ended(self) -> None:
        ended = self._ended()
        if ended.died and self.deaths < _DEATHS:
            self.deaths += 1  # somebody killed it, say: the next goes on where it was
            return
        self.deaths = 0
        ended.result()

    def _ended(self) -> Bringing:
        assert self.bringing is not None
        ended, self.bringing = self.bringing, None
        self.keeper.forget(ended)
        ended.stop()
        return ended

    def _order(self, spec: DeploymentSpec) -> Order:
        """What is to be brought. Raises ModelMissing, StoreAway."""
        model, lacks = (
            model_of(self.redis, spec.model_id),
            f"model {spec.model_id!r} is not in the model store here",
        )
        if model is None:
            raise ModelMissing(f"{lacks}, and what it is was not said when it was deployed: deploy it again")
        if not model.files:
            raise ModelMissing(
                f"{lacks}, and cannot be fetched: it was added before Hearth took hashes of files; run `python -m "
                f"hearth_models.share {spec.model_id}` where management runs, and deploy it again"
            )
        try:
            is_shared = shared_model(self.s3, model.model_id, model.revision) is not None
            urls = signed_urls(self.s3, model) if is_shared else None
        except (MinioException, HTTPError) as error:
            raise StoreAway(f"it may have {spec.model_id}") from error
        if urls is None and not model.on_hub:
            raise ModelMissing(
                f"{lacks}, and it is neither on the hub nor in S3: run `python -m hearth_models.share {spec.model_id}` "
                "where management runs"
            )
        return Order(model=model, urls=urls)
