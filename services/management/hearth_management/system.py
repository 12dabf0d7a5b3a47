"""What the machine has left, and what waits for it."""

from hearth_contracts.system import Space, SystemReport
from hearth_fit import machine
from hearth_fit.machine import Room

from hearth_management import lanes
from hearth_management.models import import_folders
from hearth_management.services import Services


def look(services: Services) -> SystemReport:
    """Right now."""
    here = machine.look()
    return SystemReport(
        memory=_space(here.memory),
        gpus=tuple(map(_space, here.gpus)),
        disk=_space(machine.disk_room(services.home.models)),
        queues=lanes.look(services),
        imports=tuple(sorted(import_folders(services))),
    )


def _space(room: Room) -> Space:
    return Space(total_bytes=room.total, free_bytes=max(0, room.free))
