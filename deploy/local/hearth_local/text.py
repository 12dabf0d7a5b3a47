"""Numbers for people."""


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB"


def mib(count: int) -> str:
    """Bytes for people, where a GiB would be too coarse."""
    return f"{count / 2**20:,.0f} MiB"


def span(seconds: float) -> str:
    """A length of time for people: `42 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
