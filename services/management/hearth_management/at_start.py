"""What is deployed by itself, so that a fresh platform ends serving: the embedding model that the settings name, and
what the operator's file says (HEARTH_DEPLOY_FILE, in TOML, a table a deployment):

    [default]
    model_id = "acme/llama"
    adapter_ids = []
    [default.engine]
    max_model_len = 8192

A model that is not there is downloaded first. Each is asked for once: what a user then changes or undeploys stays so,
until the settings or the file say something else.
"""

import tomllib
from hashlib import sha256

from hearth_contracts.deploy import DeployRequest, Engine
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
    return {_embedding(services), *_from_file(services)} - {""}


def _embedding(services: Services) -> str:
    """Import and deploy, once, the embedding model that the settings name. Returns what stands in the way, or ''."""
    settings = services.settings
    model_id = settings.embedding_model
    asked = services.redis.get(keys.EMBEDDING_ASKED)
    if not model_id or asked == model_id.encode():
        return ""
    if find_model(services.home.models, model_id) is None:
        jobs = [job for job in services.jobs.all() if job.name == f"IMPORT_{model_id}"]
        has_folder = (services.home.imports / settings.embedding_import / "config.json").is_file()
        # One that failed would fail again, and one that a user interrupted is not wanted; by hand it can be begun anew.
        if has_folder and all(job.status is JobStatus.FINISHED for job in jobs):
            try:
                add_from_folder(services, ImportRequest(model_id=model_id, folder=settings.embedding_import))
            except HearthError as refusal:
                return f"the embedding model is not imported: {refusal.detail}"
        return ""
    services.deployments.desire(
        EMBEDDING_DEPLOYMENT,
        engine=Engine.INFINITY,
        model_id=model_id,
        adapter_ids=(),
        served_name=settings.embedding_name,
    )
    services.redis.set(keys.EMBEDDING_ASKED, model_id)
    return ""


def _from_file(services: Services) -> set[str]:
    file = services.settings.deploy_file
    if file is None:
        return set()
    try:
        body = file.read_bytes()
        requests = FILE.validate_python(tomllib.loads(body.decode()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {f"{file} cannot be read, so nothing of it is deployed: {error}"}
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return {f"{file} is not understood, so nothing of it is deployed: {faults}"}
    return {f"{file}: {words}" for name, request in requests.items() if (words := _one(services, name, request))}


def _one(services: Services, name: str, request: DeployRequest) -> str:
    """Ask for one deployment of the file, if that was not done; gives what stands in the way, or ''."""
    digest = sha256(request.model_dump_json().encode()).hexdigest()
    if services.redis.hget(keys.FILE_ASKED, name) == digest.encode():
        return ""
    try:
        if find_model(services.home.models, request.model_id) is None:
            return _fetch(services, name, request.model_id)
        deploy(services, request, name=name)
    except HearthError as refusal:
        return f"{name} is not deployed: {refusal.detail}"
    except (S3Error, HTTPError):
        return f"{name} is not deployed yet: S3 does not answer"
    services.redis.hset(keys.FILE_ASKED, name, digest)
    return ""


def _fetch(services: Services, name: str, model_id: str) -> str:
    """Begin its download, once. One that ended otherwise than well is for a person to begin anew."""
    downloads = [job for job in services.jobs.all() if job.name == f"DOWNLOAD_{model_id}"]
    if not downloads:
        # The hub is not asked here, since all that reconciles would wait for it: the job says what is wrong.
        begin_adding(services, JobKind.DOWNLOAD, DOWNLOADS, f"DOWNLOAD_{model_id}", {"model_id": model_id}, no_record)
    elif (last := max(downloads, key=lambda job: job.created_at)).status in {JobStatus.FAILED, JobStatus.KILLED}:
        return f"{name} waits for {model_id}, whose download is {last.status}: {last.error or 'add it again'}"
    return ""
