"""Where Hearth is, and the key to it."""

import os
from dataclasses import dataclass, field
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class ClientSettings:
    """How a client reaches the platform."""

    url: str  # of the gateway, without a last slash
    api_key: str = field(repr=False)  # empty: none is needed on loopback as long as there is no key
    patience: float  # seconds to try again for while connections break or a part is away

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def direct(self) -> dict[str, Any]:
        """httpx's mounts that let no proxy between us and this machine."""
        return {f"all://{host}": None for host in LOOPBACK}


def client_settings(url: str, api_key: str, patience: float) -> ClientSettings:
    """The settings, with what is empty from HEARTH_URL and HEARTH_API_KEY."""
    url = url or os.environ.get("HEARTH_URL") or DEFAULT_URL
    return ClientSettings(url.rstrip("/"), api_key or os.environ.get("HEARTH_API_KEY", ""), patience)
