"""What is deployed by itself, so that a fresh platform ends serving: the embedding model that the settings name, and
what the operator's file says (HEARTH_DEPLOY_FILE, in TOML, a table a deployment):

    [default]
    model_id = "acme/llama"
    adapter_ids = []
    [default.engine]
    max_model_len = 8192

A model that is not there is brought first: the embedding model of the settings from its folder under imports, any other
from the hub. Each is asked for once: what a user then changes or undeploys stays so, until the settings or the file say
something else.
"""

import tomllib
from hashlib import sha256
from pathlib import Path

from hearth_contracts.deploy import DeployRequest
from hearth_contracts.errors import HearthError
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_contracts.models import ImportRequest
from hearth_jobs import keys
from hearth_jobs.deployments import EMBEDDING_DEPLOYMENT
from hearth_jobs.idempotency import no_record
from hearth_jobs.queues import DOWNLOADS
from hearth_storage.model_store import find_model
from minio.error import S3Error
from pydantic import TypeAdapter, ValidationError
from urllib3.exceptions import HTTPError

from hearth_management.deploy import deploy
from hearth_management.models import add_from_folder, begin_adding
from hearth_management.services import Services

FILE = TypeAdapter(dict[str, DeployRequest])


def deploy_at_start(services: Services) -> set[str]:
    """One look at both; gives what stands in the way, in words."""
    settings = services.settings
    wanted: dict[str, tuple[str, DeployRequest]] = {}  # by deployment: who asks, and for what
    if settings.embedding_model:
        wanted[EMBEDDING_DEPLOYMENT] = ("HEARTH_EMBEDDING_MODEL", DeployRequest(model_id=settings.embedding_model))
    obstacles = set()
    if settings.deploy_file is not None:
        try:
            wanted |= {name: (str(settings.deploy_file), each) for name, each in _read(settings.deploy_file).items()}
        except ValueError as fault:
            obstacles.add(f"{settings.deploy_file} {fault}")
    for name, (source, request) in wanted.items():
        if words := _one(services, name, request):
            obstacles.add(f"{source}: {words}")
    return obstacles


def _read(file: Path) -> dict[str, DeployRequest]:
    """What the file asks for, by deployment. Raises ValueError with what is wrong and where."""
    try:
        return FILE.validate_python(tomllib.loads(file.read_bytes().decode()))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"is not understood, so nothing of it is deployed: {faults}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"cannot be read, so nothing of it is deployed: {error}") from error


def _one(services: Services, name: str, request: DeployRequest) -> str:
    """Ask for one deployment, if that was not done; gives what stands in the way, or ''."""
    digest = sha256(request.model_dump_json().encode()).hexdigest()
    if services.redis.hget(keys.ASKED_AT_START, name) == digest.encode():
        return ""
    try:
        if find_model(services.home.models, request.model_id) is None:
            return _bring(services, name, request.model_id)
        deploy(services, request, name=name)
    except HearthError as refusal:
        return f"{name} is not deployed: {refusal.detail}"
    except (S3Error, HTTPError):
        return f"{name} is not deployed yet: S3 does not answer"
    services.redis.hset(keys.ASKED_AT_START, name, digest)
    return ""


def _bring(services: Services, name: str, model_id: str) -> str:
    """Begin to bring a model, once; what did not end well is for a person to begin anew. Raises HearthError."""
    names = {f"DOWNLOAD_{model_id}", f"IMPORT_{model_id}"}
    brought = [job for job in services.jobs.all() if job.name in names]
    if not brought:
        _begin_to_bring(services, model_id)
        return ""
    last = max(brought, key=lambda job: job.created_at)
    if last.status in {JobStatus.FAILED, JobStatus.KILLED}:
        return f"{name} waits for {model_id}, whose {last.kind} is {last.status}: {last.error or 'add it again'}"
    return ""


def _begin_to_bring(services: Services, model_id: str) -> None:
    settings = services.settings
    if model_id != settings.embedding_model:
        # The hub is not asked here, since all that reconciles would wait for it: the job says what is wrong.
        begin_adding(services, JobKind.DOWNLOAD, DOWNLOADS, f"DOWNLOAD_{model_id}", {"model_id": model_id}, no_record)
    elif (services.home.imports / settings.embedding_import / "config.json").is_file():
        add_from_folder(services, ImportRequest(model_id=model_id, folder=settings.embedding_import))
