"""Models: what there is, adding more, taking some away."""

import json
import logging
from pathlib import Path

from hearth_contracts.deploy import Task
from hearth_contracts.errors import Conflict, Invalid, NotFound, Unavailable
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.models import HubModel, ImportRequest, MergeSubject, ModelEntry, StoredModel
from hearth_contracts.names import is_adapter_id, is_model_id
from hearth_fit.weigh import report
from hearth_jobs import keys
from hearth_jobs.deployment_record import Deployment
from hearth_jobs.idempotency import Recorder, no_record
from hearth_jobs.models import forget_model, model_of, put_model
from hearth_jobs.queues import DOWNLOADS, Lane, enqueue
from hearth_models.refusals import Refused
from hearth_models.share import unshare_model
from hearth_storage.adapters import delete_adapter, read_manifest
from hearth_storage.model_store import delete_model, find_model, list_models, model_folder, snapshot_path
from huggingface_hub import constants
from redis.client import Pipeline

from hearth_management.fit import download_report, require_room
from hearth_management.hub import Listing, look_up, search
from hearth_management.services import Services
from hearth_management.tasks import task_of

log = logging.getLogger(__name__)

ADDED_FROM = "POST /v1/models/add/"


def entries(services: Services) -> list[ModelEntry]:
    """Every base model and adapter."""
    bases = [
        ModelEntry(
            model_id=model.model_id,
            adapter=False,
            size_bytes=model.size_bytes,
            license=model.license,
            created_at=model.created_at,
        )
        for model in list_models(services.home.models)
    ]
    adapters = [
        ModelEntry(
            model_id=manifest.adapter_id,
            adapter=True,
            base_model_id=manifest.base_model_id,
            size_bytes=sum(file.bytes for file in manifest.files),
            license=manifest.license,
            created_at=manifest.created_at,
        )
        for manifest in services.adapters.manifests()
    ]
    return [*bases, *adapters]


def finetunable(services: Services) -> list[ModelEntry]:
    """The base models that generate text, and so can be trained and deployed as LLM."""
    store = services.home.models
    generative = {model.model_id for model in list_models(store) if _generates(services, model)}
    return [entry for entry in entries(services) if entry.model_id in generative]


def _generates(services: Services, model: StoredModel) -> bool:
    return task_of(snapshot_path(services.home.models, model)) is Task.GENERATE


def require_model(services: Services, model_id: str) -> StoredModel:
    """A base model. Raises NotFound, saying what there is."""
    model = find_model(services.home.models, model_id)
    if model is None:
        there = ", ".join(found.model_id for found in list_models(services.home.models)) or "none"
        raise NotFound(f"there is no base model {model_id!r}; there are: {there}. Add one with {ADDED_FROM}")
    return model


def require_base(services: Services, model_id: str) -> StoredModel:
    """A base model that can be fine-tuned. Raises NotFound or Invalid."""
    model = require_model(services, model_id)
    if not _generates(services, model):
        raise Invalid(f"{model_id!r} does not generate text, so it cannot be fine-tuned")
    return model


def add(services: Services, model_id: str, record: Recorder = no_record) -> Job:
    """Begin a download from the hub. Raises Invalid, NotFound, Forbidden, Conflict.

    A hub that does not answer within `hub_seconds` is asked by the job, whose `error` then tells.
    """
    _refuse_twice(services, _well_formed(model_id))
    listing = _listing(services, model_id)
    if listing is not None:
        require_room(services, model_id, download_report(services, listing))
    return begin_adding(services, JobKind.DOWNLOAD, DOWNLOADS, f"DOWNLOAD_{model_id}", {"model_id": model_id}, record)


def estimate(services: Services, model_id: str) -> FitReport:
    """What such a download would take. Raises what `add` raises, but for want of room."""
    _refuse_twice(services, _well_formed(model_id))
    listing = _listing(services, model_id)
    return (
        report([], [f"{constants.ENDPOINT} does not answer"]) if listing is None else download_report(services, listing)
    )


def search_hub(services: Services, text: str, limit: int) -> list[HubModel]:
    """Models on the hub by their names. Raises Unavailable where it does not answer, Conflict where none is asked."""
    try:
        return search(text, limit, services.settings.hub_seconds)
    except Refused as refusal:
        raise (refusal.kind or Unavailable)(str(refusal)) from refusal


def _well_formed(model_id: str) -> str:
    if not is_model_id(model_id):
        raise Invalid(f"{model_id!r} is not a model id: it is written `name` or `organisation/name`, as on the hub")
    return model_id


def _listing(services: Services, model_id: str) -> Listing | None:
    """What the hub says, or None when it says nothing just now."""
    try:
        return look_up(model_id, services.settings.hub_seconds)
    except Refused as refusal:
        if refusal.kind is None:
            log.info("added without the hub's word: %s", refusal)
            return None
        raise refusal.kind(str(refusal)) from refusal


def import_folders(services: Services) -> dict[str, Path]:
    """What lies in the import directory, by name."""
    return {path.name: path for path in services.home.imports.glob("[!.]*") if path.is_dir()}


def add_from_folder(services: Services, request: ImportRequest, record: Recorder = no_record) -> Job:
    """Begin an import from the import directory. Raises Invalid, NotFound, Conflict."""
    _well_formed(request.model_id)
    folders = import_folders(services)
    folder = folders.get(request.folder)  # a look-up by name: no path is made of what the user sent
    if folder is None:
        there = ", ".join(sorted(folders)) or "none"
        raise NotFound(f"there is no folder {request.folder!r} in {services.home.imports}; there are: {there}")
    if folder.resolve().parent != services.home.imports.resolve():
        raise Invalid(f"{request.folder!r} is a link that leads out of {services.home.imports}; put the files there")
    if not (folder / "config.json").is_file():
        raise Invalid(f"{request.folder!r} has no config.json: it is not a model in Hugging Face's format")
    if not any(folder.glob("*.safetensors")):
        raise Invalid(f"{request.folder!r} has no *.safetensors weights; other formats can run code and are not loaded")
    subject = {"model_id": request.model_id, "folder": request.folder}
    return begin_adding(services, JobKind.IMPORT, DOWNLOADS, f"IMPORT_{request.model_id}", subject, record)


def remove(services: Services, model_id: str) -> None:
    """Delete a base model or an adapter, or what an interrupted download left. Raises NotFound, Conflict."""
    for record in services.deployments.all():
        for spec in (record.desired, record.serving):
            if spec is not None and model_id in (spec.model_id, *spec.adapter_ids):
                raise Conflict(f"{model_id!r} is deployed; undeploy it first")
    for job in services.jobs.active():
        finetune = services.finetunes.get(services.jobs.subject(job.id)) if job.kind is JobKind.FINETUNE else None
        if finetune is not None and finetune.model_id == model_id:
            raise Conflict(f"{model_id!r} is being fine-tuned by job {job.id}; interrupt that first")
        if job.kind is JobKind.MERGE and _is_merged(services, model_id, services.jobs.subject(job.id)):
            raise Conflict(f"{model_id!r} is being merged by job {job.id}; wait, or interrupt that first")
    _refuse_while_added(services, model_id)
    if is_model_id(model_id) and model_folder(services.home.models, model_id).is_dir():
        unshare_model(services.s3, model_id)
        delete_model(services.home.models, model_id)
        forget_model(services.redis, model_id)
    elif is_adapter_id(model_id) and read_manifest(services.s3, model_id) is not None:
        delete_adapter(services.s3, model_id)
    else:
        raise NotFound(f"there is no model {model_id!r}")


def tell_nodes(services: Services, deployments: list[Deployment]) -> None:
    """Record what the store has of each model that is deployed, where that is not recorded.

    An older Hearth did not, and a model's hashes may have been taken since (`hearth_models.share`).
    """
    specs = [spec for record in deployments for spec in (record.desired, record.serving)]
    for model_id in {spec.model_id for spec in specs if spec is not None}:
        model = find_model(services.home.models, model_id)
        if model is not None and model != model_of(services.redis, model_id):
            put_model(services.redis, model)


def _is_merged(services: Services, model_id: str, subject: str) -> bool:
    """Whether a model is the adapter or the base of a merge."""
    adapter_id = MergeSubject.model_validate_json(subject).adapter_id
    manifest = read_manifest(services.s3, adapter_id)
    return model_id == adapter_id or (manifest is not None and model_id == manifest.base_model_id)


def _refuse_twice(services: Services, model_id: str) -> None:
    if find_model(services.home.models, model_id) is not None:
        raise Conflict(f"{model_id!r} is there already")
    _refuse_while_added(services, model_id)


def _refuse_while_added(services: Services, model_id: str) -> None:
    for job in services.jobs.active():
        if job.kind in (JobKind.DOWNLOAD, JobKind.IMPORT, JobKind.MERGE):
            subject = json.loads(services.jobs.subject(job.id))
            if subject["model_id"] == model_id:
                raise Conflict(f"{model_id!r} is being added by job {job.id}; wait, or interrupt that first")


def begin_adding(
    services: Services, kind: JobKind, lane: Lane, name: str, subject: dict[str, str], record: Recorder
) -> Job:
    """Record the job and its item, unless the model is there or on its way; of two requests at once one is refused."""
    made: list[Job] = []

    def change(pipe: Pipeline) -> None:
        _refuse_twice(services, subject["model_id"])
        pipe.multi()
        job = services.jobs.create(pipe, kind=kind, name=name, subject=json.dumps(subject))
        enqueue(services.redis, lane, job.id, pipe=pipe)
        record(pipe, job)
        made[:] = [job]

    services.redis.transaction(change, keys.JOBS)  # run again when a job was created meanwhile
    return made[0]
