"""Starting an engine: from what model, where its files lie, and whether there is room for it."""

from pathlib import Path

from hearth_contracts.deploy import DeploymentSpec
from hearth_fit.machine import memory_room
from hearth_jobs.attempt import WorkFailed
from hearth_storage.config import HomeSettings

from hearth_inference.config import LOOPBACK
from hearth_inference.engines.base import EngineDriver
from hearth_inference.process import EngineProcess


def launch(
    driver: EngineDriver,
    spec: DeploymentSpec,
    model: Path,
    *,
    host: str,
    home: HomeSettings,
    name: str,
    beside: EngineProcess | None,
) -> EngineProcess:
    """Start an engine for a version. `name` tells it from other engines of this machine. Raises WorkFailed."""
    if host != LOOPBACK:  # then there may be other machines, and a folder that they share
        name = f"{name}-{host}"
    log = home.logs / f"engine-{name}.log"
    if beside is not None and beside.log == log:  # or their last words would mix
        log = home.logs / f"engine-{name}-beside.log"
    try:
        scratch = home.home.absolute() / "run" / f"engine-{name}"
        return EngineProcess(driver, spec, model, host=host, scratch=scratch, log=log)
    except (OSError, ValueError) as error:
        raise WorkFailed(f"the engine for {spec.model_id!r} could not be started: {error}") from error


def fits_beside(driver: EngineDriver, spec: DeploymentSpec, model: Path | None) -> bool:
    """Whether the machine has room for this version's engine beside what runs; None while its model is not here."""
    if model is None:
        return True  # it is not started yet, and so must not cost the one that serves
    needed = driver.memory_needed(spec, model)
    return needed is not None and needed <= memory_room().free
