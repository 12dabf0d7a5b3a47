"""A need set against what there is."""

from collections.abc import Sequence

from hearth_contracts.errors import Conflict, Fault, HearthError, Invalid
from hearth_contracts.fit import FitReport, Need, Resource

from hearth_fit.machine import Room

GIB = 2**30


def weigh(resource: Resource, parts: dict[str, int], room: Room, remedy: str) -> Need:
    """A need of these parts against this room; `remedy` says what would make it fit."""
    needed = sum(parts.values())
    fits = needed <= room.free
    return Need(
        resource=resource,
        needed_bytes=needed,
        parts=parts,
        available_bytes=max(0, room.free),
        total_bytes=room.total,
        fits=fits,
        remedy="" if fits else remedy,
    )


def report(needs: Sequence[Need], notes: Sequence[str] = ()) -> FitReport:
    """Needs as one report."""
    return FitReport(fits=all(need.fits for need in needs), needs=tuple(needs), notes=tuple(notes))


def refusal(what: str, found: FitReport) -> HearthError | None:
    """The error for a report that does not fit: Invalid where it never can here, Conflict where it cannot for now."""
    short = [need for need in found.needs if not need.fits]
    if not short:
        return None
    faults = [Fault(loc=["fit", need.resource.value], msg=words(need), type="does_not_fit") for need in short]
    kind = Invalid if any(need.needed_bytes > need.total_bytes for need in short) else Conflict
    return kind(f"{what} does not fit: {'; '.join(fault.msg for fault in faults)}", faults=faults)


def words(need: Need) -> str:
    """A need in words, with its numbers."""
    parts = ", ".join(f"{name.replace('_', ' ')} {_size(size)}" for name, size in need.parts.items() if size)
    there = f"{_size(need.available_bytes)} of {_size(need.total_bytes)} can be had"
    remedy = f": {need.remedy}" if need.remedy else ""
    return f"it needs {_size(need.needed_bytes)} of {need.resource.replace('_', ' ')} ({parts}), but {there}{remedy}"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"
