"""A merge job: an adapter into its base, as a new model in this machine's model store."""

import json
import shutil

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.models import MergeSpec, MergeSubject, StoredModel
from hearth_jobs.attempt import Attempt, WorkFailed
from hearth_models.refusals import Refused
from hearth_models.share import share_model
from hearth_storage.adapters import AdapterCorrupt, AdapterMissing, fetch_adapter, read_manifest
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import describe_model, find_model, model_folder, record_model, snapshot_path
from minio import Minio

from hearth_training.command import trainer_env
from hearth_training.config import TrainingSettings

GRACE_SECONDS = 3.0


def merge(attempt: Attempt, subject: MergeSubject, home: HomeSettings, s3: Minio, settings: TrainingSettings) -> None:
    """Make the model exist. Raises WorkFailed."""
    attempt.report(stage="fetching the adapter")
    manifest = read_manifest(s3, subject.adapter_id)
    if manifest is None:
        raise WorkFailed(f"adapter {subject.adapter_id} has been deleted")
    base = _base(home, manifest)
    try:
        adapter = fetch_adapter(s3, subject.adapter_id, home.adapters)
    except (AdapterMissing, AdapterCorrupt) as fault:
        raise WorkFailed(str(fault)) from fault
    merged = StoredModel(
        model_id=subject.model_id,
        revision=f"{base.revision}-{subject.adapter_id}",
        size_bytes=0,
        license=base.license,
        created_at=now(),
    )
    output = snapshot_path(home.models, merged)
    shutil.rmtree(output, ignore_errors=True)  # as an attempt before this one may have left it
    output.parent.mkdir(parents=True, exist_ok=True)
    spec = MergeSpec(
        model_path=str(snapshot_path(home.models, base)), adapter_path=str(adapter), output_dir=str(output)
    )
    spec_path = model_folder(home.models, subject.model_id) / "merge.json"
    spec_path.write_text(spec.model_dump_json(indent=2))
    attempt.report(progress=0.1, stage="merging")
    command = [str(settings.trainer_python.absolute()), "-m", "hearth_trainer.merge", str(spec_path)]
    for line in attempt.lines(command, env=trainer_env(), grace=GRACE_SECONDS):
        attempt.log(line)
    spec_path.unlink()
    (output / "README.md").write_text(_card(manifest), encoding="utf-8")
    attempt.check()
    files = describe_model(output)
    model = merged.model_copy(update={"size_bytes": sum(file.bytes for file in files), "files": files})
    if S3Settings().share_models:
        try:
            share_model(s3, home.models, model, attempt)
        except Refused as refusal:
            raise WorkFailed(str(refusal)) from refusal
    record_model(home.models, model)


def _base(home: HomeSettings, manifest: AdapterManifest) -> StoredModel:
    base = find_model(home.models, manifest.base_model_id)
    if base is None:
        raise WorkFailed(f"the base model {manifest.base_model_id} is no longer there; add it and merge again")
    if base.revision != manifest.base_revision:
        raise WorkFailed(
            f"adapter {manifest.adapter_id} was trained on revision {manifest.base_revision} of {base.model_id}, "
            f"and {base.revision} is here; train it again"
        )
    return base


def _card(manifest: AdapterManifest) -> str:
    header = {"base_model": manifest.base_model_id, "license": manifest.license or "unknown"}
    lines = [f"{name}: {json.dumps(value)}" for name, value in header.items()]
    words = f"{manifest.base_model_id} with the adapter `{manifest.adapter_id}` merged into it by Hearth."
    return "\n".join(["---", *lines, "---", words, ""])
