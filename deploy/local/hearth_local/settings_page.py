"""`python -m hearth_local.settings_page`: write docs/configure.md from the settings that the code has."""

from pathlib import Path

from hearth_dataset.config import DatasetSettings
from hearth_fit.engine import EngineDefaults
from hearth_gateway.config import GatewaySettings
from hearth_inference.config import InferenceSettings
from hearth_jobs.config import RedisSettings
from hearth_management.config import ManagementSettings
from hearth_storage.config import HomeSettings, S3Settings
from hearth_training.config import TrainingSettings
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from hearth_local.config import DEFAULT_PORTS
from hearth_local.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "configure.md"
BEGINNING = """# Every setting

Environment variables; `make up` passes on those that begin with `HEARTH_`, `HF_`, `VLLM_` and the like, and
[docker-compose.yml](../docker-compose.yml) those that it names. What cannot be understood stops a program at its start,
with the variable's name. This page is written from the code by `python -m hearth_local.settings_page`.

Hugging Face's own: `HF_ENDPOINT` (another hub), `HF_TOKEN` (gated models), `HF_HUB_OFFLINE=1` (ask no hub).
OpenTelemetry's own: `OTEL_EXPORTER_OTLP_ENDPOINT` switches traces on ([operate.md](operate.md#follow-one-request)).
"""
GROUPS: tuple[tuple[str, str, tuple[type[BaseSettings], ...]], ...] = (
    ("Where things are", "For every program; `make up` and compose set all but the first.",
     (HomeSettings, RedisSettings, S3Settings)),
    ("Gateway", "The public address, and its limits.", (GatewaySettings,)),
    ("Management and the download worker", "Names, what is deployed at start, retries.", (ManagementSettings,)),
    ("Engines", "For management, which reckons with them, and the inference nodes.", (EngineDefaults,)),
    ("Inference nodes", "", (InferenceSettings,)),
    ("Dataset service", "", (DatasetSettings,)),
    ("Training worker", "", (TrainingSettings,)),
)  # fmt: skip
LOCAL = {
    "HEARTH_ENVS": ("`.envs`", "folder of the Python environments"),
    "HEARTH_COMPILED": (
        "`HEARTH_ENVS/compiled`",
        "folder with the gateway's compiled token path; empty: its Python source is run",
    ),
    **{f"HEARTH_{name.upper()}_PORT": (str(port), f"port on loopback: {name}") for name, port in DEFAULT_PORTS.items()},
}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    if field.default_factory is not None:
        return "found by looking"
    value = field.default
    value = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if value is None or value in ("", ()):
        return "none"
    return f"`{getattr(value, 'value', value)}`"


def _rows(settings: type[BaseSettings]) -> list[str]:
    """The settings that a class has of its own."""
    prefix = settings.model_config.get("env_prefix", "")
    inherited = {name for base in settings.__bases__ for name in getattr(base, "model_fields", {})}
    return [
        f"| `{prefix.upper()}{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in settings.model_fields.items()
        if name not in inherited
    ]


def page() -> str:
    """The page as it is to be."""
    head = ["| variable | default | what |", "| --- | --- | --- |"]
    parts = [BEGINNING]
    for title, words, classes in GROUPS:
        rows = [row for settings in classes for row in _rows(settings)]
        parts.append("\n".join([f"## {title}", "", *([words, ""] if words else []), *head, *rows, ""]))
    local = [f"| `{name}` | {default} | {words} |" for name, (default, words) in LOCAL.items()]
    parts.append("\n".join(["## `make up`", "", *head, *local, ""]))
    return "\n".join(parts)


def main(path: Path = PAGE) -> None:
    """Write it."""
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
