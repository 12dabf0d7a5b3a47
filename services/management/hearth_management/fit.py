"""Whether a deployment or a fine-tune fits on this machine, asked before anything of it is recorded."""

from hearth_contracts.datasets import Dataset
from hearth_contracts.deploy import DeploymentSpec, Engine, Task
from hearth_contracts.engine import EngineSettings
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_contracts.models import StoredModel
from hearth_contracts.precision import has_avx512
from hearth_fit import machine
from hearth_fit.facts import Facts, FactsUnknown, read_facts
from hearth_fit.machine import Machine, Room
from hearth_fit.serving import (
    GPU_SHARE,
    Serving,
    cluster_note,
    cpu_parts,
    infinity_needs,
    infinity_parts,
    vllm_needs,
)
from hearth_fit.training import Training, training_needs
from hearth_fit.weigh import GIB, refusal, report
from hearth_jobs.deployment_record import Deployment
from hearth_models.room import disk_need
from hearth_storage.model_store import find_model, snapshot_path

from hearth_management.hub import Listing, brought
from hearth_management.services import Services
from hearth_management.tasks import ENGINES, Slot

NOTHING = Machine(Room(0, 0))


def facts_of(services: Services, model: StoredModel) -> Facts:
    """What a stored model's files say. Raises FactsUnknown."""
    return read_facts(snapshot_path(services.home.models, model))


def require_room(services: Services, what: str, found: FitReport) -> None:
    """Raise Invalid or Conflict, with the numbers, for what does not fit."""
    error = refusal(what, found) if services.settings.fit_check else None
    if error is not None:
        raise error


def download_report(services: Services, listing: Listing) -> FitReport:
    """What a download takes on disk, and whether what it brings could be served here."""
    store = services.home.models
    left = max(0, listing.bytes - brought(store, listing.model_id))
    weights = sum(file.size or 0 for file in listing.files if file.rfilename.endswith(".safetensors"))
    notes = [] if weights <= machine.look().memory.total else [
        f"its weights are {weights / GIB:.1f} GiB, more than this machine's memory: serving them takes other machines"
    ]  # fmt: skip
    return report([disk_need(store, left)], notes)


def deploy_report(services: Services, slot: Slot, model: StoredModel, asked: EngineSettings) -> FitReport:
    """What serving this model takes, when what the deployment serves by now has made room."""
    here, freed = machine.look(), _taken(services, services.deployments.get(slot.name))
    if ENGINES[slot.task] is Engine.INFINITY:
        return report(infinity_needs(model.size_bytes, here, freed))
    try:
        facts = facts_of(services, model)
    except FactsUnknown as unknown:
        return report([], [f"{model.model_id}: its memory cannot be estimated: {unknown}"])
    serving = Serving(facts, services.settings.settled(asked, facts.context))
    if services.settings.engine_ray_address:
        return report([], [cluster_note(serving, services.settings)])
    return report(vllm_needs(serving, services.settings, here, freed))


def whole(room: Room) -> Room:
    """A room with nothing in it."""
    return Room(room.total, room.total)


def finetune_report(
    services: Services,
    model: StoredModel,
    dataset: Dataset,
    *,
    rank: int,
    rows_at_once: int,
    max_length: int,
    target_modules: tuple[str, ...] | None = None,
    packing: bool = False,
    load_in_4bit: bool = False,
    shards: int = 1,
) -> FitReport:
    """What training an adapter takes, with deployments as they are and once any other training is over."""
    try:
        facts = facts_of(services, model)
    except FactsUnknown as unknown:
        return report([], [f"{model.model_id}: its memory cannot be estimated: {unknown}"])
    training = Training(
        facts,
        device=services.settings.engine_device,
        avx512=has_avx512(),
        rank=rank,
        target_modules=target_modules,
        rows_at_once=rows_at_once,
        max_length=max_length,
        dataset_bytes=dataset.bytes,
        dataset_rows=dataset.rows,
        packing=packing,
        load_in_4bit=load_in_4bit,
        shards=shards,
    )
    here = machine.look()
    # One training runs at a time, and what another takes now is free when this one begins. How much that is nobody
    # knows: then only what the machine has in all is the limit.
    waits = any(job.kind is JobKind.FINETUNE and job.status is JobStatus.RUNNING for job in services.jobs.active())
    freed = Machine(whole(here.memory), tuple(map(whole, here.gpus))) if waits else NOTHING
    return report(training_needs(training, here, freed, machine.disk_room(services.home.runs)))


def _taken(services: Services, record: Deployment | None) -> Machine:
    """The memory that a deployment's serving version holds, as far as it can be told."""
    spec = record.serving if record is not None else None
    if spec is None or all(node.deployment != spec.name for node in services.nodes.live()):
        return NOTHING
    model = find_model(services.home.models, spec.model_id)
    if model is None:
        return NOTHING
    if spec.task is not Task.GENERATE:
        return _memory(infinity_parts(model.size_bytes))
    try:
        return _taken_by_llm(services, spec, facts_of(services, model))
    except FactsUnknown:
        return NOTHING


def _taken_by_llm(services: Services, spec: DeploymentSpec, facts: Facts) -> Machine:
    settings = services.settings
    if settings.engine_ray_address:
        return NOTHING
    if settings.engine_device == "cuda":
        share = spec.settings.gpu_memory_utilization or GPU_SHARE
        cards = machine.gpu_rooms()[: spec.settings.ranks]
        claims = [int(share * card.total) for card in cards]
        return Machine(Room(0, 0), tuple(Room(claim, claim) for claim in claims))
    serving = Serving(facts, settings.settled(spec.settings, facts.context))
    return _memory(cpu_parts(serving, settings.cpu_kv_cache_gib * GIB))


def _memory(parts: dict[str, int]) -> Machine:
    total = sum(parts.values())
    return Machine(Room(total, total))
