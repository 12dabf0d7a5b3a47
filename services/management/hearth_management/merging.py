"""Merging an adapter into its base: checked and queued here, done by the training worker."""

from hearth_contracts.errors import Invalid
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.models import MergeRequest, MergeSubject
from hearth_contracts.names import is_model_id
from hearth_jobs.idempotency import Recorder, no_record
from hearth_jobs.queues import TRAINING

from hearth_management.archive import require_adapter
from hearth_management.models import begin_adding, require_base
from hearth_management.services import Services


def merge(services: Services, adapter_id: str, request: MergeRequest, record: Recorder = no_record) -> Job:
    """Begin a merge. Raises NotFound, Invalid, and Conflict for a name that is taken."""
    manifest = require_adapter(services, adapter_id)
    require_base(services, manifest.base_model_id)
    if not is_model_id(request.model_id):
        raise Invalid(f"{request.model_id!r} is not a model id: it is written `name` or `organisation/name`")
    subject = MergeSubject(adapter_id=adapter_id, model_id=request.model_id)
    return begin_adding(services, JobKind.MERGE, TRAINING, f"MERGE_{adapter_id}", subject.model_dump(), record)
