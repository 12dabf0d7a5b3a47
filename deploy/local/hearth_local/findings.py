"""What a check found, and what mends it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, but not as well as it should
    FAULT = "fault"  # something does not work, or would not start


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""  # for all but ok


def ok(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Not as well as it should be."""
    return Finding(check, Verdict.WARNING, found, remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    """In the way."""
    return Finding(check, Verdict.FAULT, found, remedy)
