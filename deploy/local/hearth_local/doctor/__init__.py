"""What is wrong with this machine and its platform, and what mends it. Looks only; nothing is changed."""

from collections.abc import Callable, Iterator

from hearth_local.doctor.machine import disk, environments, gpu, memory, ports, python, secrets_file
from hearth_local.doctor.programs import leftovers, programs, redis, s3, supervisor
from hearth_local.findings import Finding, fault
from hearth_local.platform import Platform

Check = Callable[[Platform], Iterator[Finding]]

MACHINE: tuple[Check, ...] = (python, environments, disk, memory, gpu, secrets_file)
WHILE_DOWN: tuple[Check, ...] = (supervisor, leftovers, ports)
WHILE_UP: tuple[Check, ...] = (supervisor, redis, s3, programs)


def examine(platform: Platform) -> list[Finding]:
    """Everything that was looked at, in the order to mend it."""
    checks = (*MACHINE, *(WHILE_UP if platform.is_up() else WHILE_DOWN))
    return [finding for check in checks for finding in _carried_out(check, platform)]


def _carried_out(check: Check, platform: Platform) -> list[Finding]:
    """What a check found; one that breaks is a finding too, for the others must still be told."""
    try:
        return list(check(platform))
    except Exception as error:
        name = check.__name__.replace("_", " ")
        return [fault(name, f"could not be looked at: {error!r}", "report this with `hearth support-bundle`")]
