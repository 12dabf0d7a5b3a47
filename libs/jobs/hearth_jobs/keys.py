"""Every key Hearth writes to Redis. The table in docs/architecture.md says what each holds."""

JOBS = "hearth:jobs"
ACTIVE_JOBS = "hearth:jobs:active"
FINETUNES = "hearth:finetunes"
FINETUNES_TO_DEPLOY = "hearth:finetunes:to-deploy"
DEPLOYMENTS = "hearth:deployments"
MODELS = "hearth:models"
NODES = "hearth:nodes"
REPLICAS = "hearth:replicas"
ASKED = "hearth:asked"
TALLIES = "hearth:tallies"
WAKE = "hearth:wake"
ASKED_AT_START = "hearth:asked-at-start"
STATE_VERSION = "hearth:state-version"


def job(job_id: str) -> str:
    """A job's hash."""
    return f"hearth:job:{job_id}"


def finetune(finetune_id: str) -> str:
    """A fine-tune's JSON."""
    return f"hearth:finetune:{finetune_id}"


def finetune_metrics(finetune_id: str) -> str:
    """A fine-tune's curve: a sorted set of JSON, by step."""
    return f"hearth:finetune:{finetune_id}:metrics"


def finetune_run(finetune_id: str) -> str:
    """What the worker found out of a fine-tune: a hash."""
    return f"hearth:finetune:{finetune_id}:run"


def deployment(name: str) -> str:
    """A deployment's hash."""
    return f"hearth:deployment:{name}"


def replica(deployment_name: str, index: int) -> str:
    """Who holds a replica of a deployment: a hash."""
    return f"hearth:replica:{deployment_name}:{index}"


def node(node_id: str) -> str:
    """An inference node's report, which is also its lease."""
    return f"hearth:node:{node_id}"


def load(node_id: str) -> str:
    """What the engine of an inference node has to do."""
    return f"hearth:load:{node_id}"


def advice(deployment_name: str) -> str:
    """How many engines the load of a deployment took lately."""
    return f"hearth:advice:{deployment_name}"


def first_tokens(deployment_name: str, slot: int) -> str:
    """How long the first tokens of a deployment's streams took, in one stretch of time: a hash by bucket."""
    return f"hearth:first-tokens:{deployment_name}:{slot}"


def idempotency(digest: str) -> str:
    """What was answered to a request with an Idempotency-Key of this digest."""
    return f"hearth:idempotency:{digest}"
