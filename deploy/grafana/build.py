"""The four dashboards, as code: `python3 deploy/grafana/build.py` writes them to dashboards/. Standard library alone.

A panel is a title, a unit, a sentence that says what to read from it, and its queries with the legend of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
PER_ROW = 3
WIDTH, HEIGHT = 8, 8


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    unit: str  # Grafana's word: s, short, reqps, bytes, percentunit, ...
    says: str
    queries: dict[str, str]  # expression by legend


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def quantile(share: float, histogram: str, by: str) -> str:
    """A quantile of a histogram over five minutes."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({histogram}_bucket[5m])))"


OVERVIEW = Dashboard(
    "hearth-overview",
    "Hearth: Overview",
    (
        Panel("Services", "bool_on_off", "Each must be on; off means Prometheus gets no answer.", {
            "{{job}}": 'up{job=~"gateway|management|dataset"}'}),
        Panel("Stores", "bool_on_off", "Whether each service reaches Redis and S3.", {
            "{{job}}: {{dependency}}": "hearth_dependency_up"}),
        Panel("Workers", "short", "Workers by queue; none means that jobs of that queue wait.", {
            "{{queue}}": "hearth_workers"}),
        Panel("Engines ready", "short", "Engines that answer, beside those desired; the two lines should be one.", {
            "{{deployment}} ready": "hearth_deployment_ready_replicas",
            "{{deployment}} desired": "hearth_deployment_desired_replicas"}),
        Panel("Requests", "reqps", "Completions and embeddings a second, by status class seen by clients.", {
            "{{status}}": "sum by (status) (rate(hearth_gateway_requests_total[5m]))"}),
        Panel("Jobs under way", "short", "Jobs that wait or run, by kind.", {
            "{{kind}} {{status}}": 'sum by (kind, status) (hearth_jobs{status=~"CREATED|RUNNING"})'}),
    ),
)  # fmt: skip

SERVING = Dashboard(
    "hearth-serving",
    "Hearth: Serving",
    (
        Panel("Requests by route", "reqps", "What clients ask for, by route and model.", {
            "{{route}} {{model}}": "sum by (route, model) (rate(hearth_gateway_requests_total[5m]))"}),
        Panel("In flight", "short", "Requests that the gateway reads or answers right now.", {
            "in flight": "hearth_gateway_requests_in_flight"}),
        Panel("Duration, p95", "s", "One request in twenty takes longer than this, from head to last byte.", {
            "{{route}}": quantile(0.95, "hearth_gateway_request_duration_seconds", "route")}),
        Panel("First token, p95", "s", "One stream in twenty waits longer than this for its first token.", {
            "{{model}}": quantile(0.95, "hearth_gateway_time_to_first_token_seconds", "model")}),
        Panel("Between tokens, p95", "s", "The mean pause between tokens in the slowest twentieth of streams.", {
            "{{model}}": quantile(0.95, "hearth_gateway_inter_token_seconds", "model")}),
        Panel("Tokens", "short", "Tokens a second as engines counted them, read (prompt) and written (completion).", {
            "{{model}} {{kind}}": "sum by (model, kind) (rate(hearth_gateway_tokens_total[5m]))"}),
        Panel("vLLM: requests", "short", "What the engine works on, and what waits inside it for room.", {
            "{{deployment}} running": "sum by (deployment) (vllm:num_requests_running)",
            "{{deployment}} waiting": "sum by (deployment) (vllm:num_requests_waiting)"}),
        Panel("vLLM: key-value cache", "percentunit", "Near 100 % requests wait for others to end.", {
            "{{deployment}}": "max by (deployment) (vllm:kv_cache_usage_perc)"}),
        Panel("infinity: requests", "reqps", "Embeddings and rankings a second, as the engine counts them.", {
            "{{deployment}} {{handler}}": (
                'sum by (deployment, handler) (rate(http_requests_total{runtime="infinity"}[5m]))')}),
        Panel("Engine loads", "s", "Mean time from an engine's start to its first answer.", {
            "{{deployment}}": "hearth_deployment_load_seconds_sum / hearth_deployment_load_seconds_count"}),
        Panel("Restarts and adapter swaps", "short", "Engines that died and came back; changes of adapters in place.", {
            "{{deployment}} restarts": "hearth_deployment_restarts_total",
            "{{deployment}} swaps": "hearth_deployment_adapter_swaps_total"}),
    ),
)  # fmt: skip

TRAINING = Dashboard(
    "hearth-training",
    "Hearth: Training",
    (
        Panel("Trainings", "short", "Fine-tune jobs by status; FAILED ones say why in their error.", {
            "{{status}}": 'hearth_jobs{kind="finetune"}'}),
        Panel("Training workers", "short", "Each takes one training at a time.", {
            "workers": 'hearth_workers{queue="training"}', "waiting": 'sum(hearth_queue_items{queue=~"training.*"})'}),
        Panel("Oldest training", "s", "How long the oldest training has waited or run.", {
            "{{status}}": 'hearth_job_oldest_age_seconds{kind="finetune"}'}),
        Panel("Queue wait, p95", "s", "One training in twenty waited longer than this for a worker.", {
            "p95": 'histogram_quantile(0.95, sum by (le) (hearth_job_queue_wait_seconds_bucket{kind="finetune"}))'}),
        Panel("Run time, median", "s", "Half of the trainings that ended took longer than this.", {
            "{{status}}": (
                'histogram_quantile(0.5, sum by (le, status) (hearth_job_run_seconds_bucket{kind="finetune"}))')}),
        Panel("Loss", "short", "The latest step of each training at work; its whole curve is in the API.", {
            "{{finetune}}": "hearth_training_loss"}),
        Panel("Speed", "short", "Tokens a second of each training at work.", {
            "{{finetune}}": "hearth_training_tokens_per_second"}),
        Panel("Time left", "s", "What is left of each training at work, at its pace so far.", {
            "{{finetune}}": "hearth_training_eta_seconds"}),
        Panel("Retries", "short", "Attempts beyond the first: workers that died or were stopped.", {
            "retries": 'hearth_job_retries_total{kind="finetune"}'}),
    ),
)  # fmt: skip

JOBS = Dashboard(
    "hearth-jobs",
    "Hearth: Jobs & Data",
    (
        Panel("Jobs", "short", "All jobs that are recorded, by kind and status.", {
            "{{kind}} {{status}}": "hearth_jobs > 0"}),
        Panel("Queues", "short", "Items that wait for a worker.", {"{{queue}}": "hearth_queue_items"}),
        Panel("Oldest waiting", "s", "Age of the oldest job that nobody has begun.", {
            "{{kind}}": 'hearth_job_oldest_age_seconds{status="CREATED"}'}),
        Panel("Files", "short", "Dataset files that were stored, and those refused for their faults.", {
            "{{outcome}}": "hearth_dataset_files_total"}),
        Panel("Rows and faults", "short", "Rows that were stored; faults that files were refused for.", {
            "{{format}} rows": "hearth_dataset_rows_total", "faults": "hearth_dataset_faults_total"}),
        Panel("Bytes checked", "Bps", "How fast files are checked and stored.", {
            "{{outcome}}": "rate(hearth_dataset_bytes_total[5m])"}),
        Panel("Redis calls", "ops", "Round trips to Redis a second.", {
            "{{job}}": "sum by (job) (rate(hearth_redis_call_duration_seconds_count[5m]))"}),
        Panel("Redis, p99", "s", "One call in a hundred takes longer than this; leases are renewed every 2 s.", {
            "{{job}}": quantile(0.99, "hearth_redis_call_duration_seconds", "job")}),
        Panel("S3, p95", "s", "One request to S3 in twenty takes longer than this, by method.", {
            "{{method}}": quantile(0.95, "hearth_s3_call_duration_seconds", "method")}),
    ),
)  # fmt: skip

DASHBOARDS = (OVERVIEW, SERVING, TRAINING, JOBS)


def panel_json(panel: Panel, place: int) -> dict[str, object]:
    """As Grafana reads it."""
    row, column = divmod(place, PER_ROW)
    targets = [
        {"datasource": SOURCE, "refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend}
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def dashboard_json(dashboard: Dashboard) -> str:
    """As Grafana reads it."""
    page = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["hearth"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [panel_json(panel, place) for place, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each.uid}.json").write_text(dashboard_json(each), encoding="utf-8")
