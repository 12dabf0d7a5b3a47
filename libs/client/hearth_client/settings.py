"""Where Hearth is, and the key to it."""

import os
from dataclasses import dataclass
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class ClientSettings:
    """How a client reaches the platform."""

    url: str = ""  # of the gateway; HEARTH_URL, else http://127.0.0.1:8080
    api_key: str = ""  # HEARTH_API_KEY; none is needed on loopback as long as there is no key
    patience: float = 30.0  # seconds to try again for while connections break or a part is away

    def __post_init__(self) -> None:
        """Take from the environment what was not given."""
        url = self.url or os.environ.get("HEARTH_URL") or DEFAULT_URL
        object.__setattr__(self, "url", url.rstrip("/"))
        object.__setattr__(self, "api_key", self.api_key or os.environ.get("HEARTH_API_KEY", ""))

    def __repr__(self) -> str:
        """Without the key."""
        return f"ClientSettings(url={self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def direct(self) -> dict[str, Any]:
        """httpx's mounts that let no proxy between us and this machine."""
        return {f"all://{host}": None for host in LOOPBACK}
