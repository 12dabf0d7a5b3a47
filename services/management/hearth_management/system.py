"""What the machine has left, and what waits for it."""

from hearth_contracts.system import QueueReport, Space, SystemReport
from hearth_fit import machine
from hearth_fit.machine import Room
from hearth_jobs.queues import Lane

from hearth_management.lanes import LANES, unbegun, workers_of
from hearth_management.models import import_folders
from hearth_management.services import Services


def look(services: Services) -> SystemReport:
    """Right now."""
    here = machine.look()
    return SystemReport(
        memory=_space(here.memory),
        gpus=tuple(map(_space, here.gpus)),
        disk=_space(machine.disk_room(services.home.models)),
        queues=tuple(_queue(services, lane) for lane in LANES),
        imports=tuple(sorted(import_folders(services))),
    )


def _space(room: Room) -> Space:
    return Space(total_bytes=room.total, free_bytes=max(0, room.free))


def _queue(services: Services, lane: Lane) -> QueueReport:
    workers = workers_of(services.redis, lane)
    return QueueReport(queue=lane.queue, waiting=unbegun(services, lane), workers=workers)
