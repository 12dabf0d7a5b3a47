"""What each role may do on the control plane."""

from hearth_contracts.access import Role

READS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

USERS_OWN = frozenset({"datasets", "files"})
"""What a user may also change: the dataset service shows each key its own."""

USERS_READ = frozenset({"models", "usage"})
"""What a user may only read; management shows each key its own usage."""


def may(role: Role, method: str, rest: str) -> bool:
    """Whether a role may send this to `/api/v1/<rest>`."""
    if role is Role.ADMIN:
        return True
    return rest.partition("/")[0] in USERS_OWN or (method in READS and rest in USERS_READ)
