"""Every key in Redis that access has. The table in docs/architecture.md says what each holds."""

KEYS = "hearth:keys"
VERSION = "hearth:keys:version"
AUDIT = "hearth:audit"


def rate(key_id: str) -> str:
    """What is left of a key's limits."""
    return f"hearth:rate:{key_id}"


def usage(day: str) -> str:
    """What was used on one day."""
    return f"hearth:usage:{day}"


def usage_batch(gateway_id: str) -> str:
    """The last batch of usage that a gateway has brought in."""
    return f"hearth:usage-batch:{gateway_id}"
