"""Which web pages may use Hearth: other sites' scripts run in the browsers of people who can reach it."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from hearth_gateway.replies import Refused
from hearth_gateway.upstream import Headers

LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
]
SHOWN = ["retry-after", "x-request-id", *LIMIT_HEADERS]
"""Headers of an answer that a page may read."""


class Pages:
    """What the settings say of web pages. A page sends its key itself, so cookies are never needed."""

    def __init__(self, origins: Sequence[str], any_host: bool) -> None:
        self.origins = frozenset(origins)
        self.any_host = any_host

    def admit(self, app: ASGIApp) -> ASGIApp:
        """The app, with the answers that browsers need to let those pages use it; none by default."""
        if not self.origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=sorted(self.origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],  # OpenAI's client for browsers sends a dozen of its own
            expose_headers=SHOWN,
        )

    def headers(self, origin: bytes | None) -> Headers:
        """The same for an answer of the token plane."""
        if origin is None or not self._is_allowed(origin.decode("latin-1")):
            return []
        shown = ", ".join(SHOWN).encode()
        return [
            (b"access-control-allow-origin", origin), (b"access-control-expose-headers", shown), (b"vary", b"Origin")
        ]  # fmt: skip

    def check(self, origin: bytes | None, host: bytes | None) -> None:
        """Refuse what a foreign page sends to a gateway that asks for no key. Raises Refused.

        A browser names the page in `Origin`. A page whose name was made to point here afterwards (DNS rebinding) has
        the same origin, but then `Host` is no address of this machine: refused too, unless any host may ask.
        """
        page, asked = (origin or b"").decode("latin-1"), (host or b"").decode("latin-1")
        if page and not self._is_allowed(page) and page.partition("://")[2] != asked:
            raise Refused(
                403,
                f"no page of {page} may use Hearth while it asks for no API key; see HEARTH_CORS_ORIGINS",
                code="foreign_origin",
            )
        if not self.any_host and not _is_address(asked):
            raise Refused(
                403,
                f"Hearth asks for no API key, so it answers to localhost and IP addresses alone, not to {asked!r}; "
                "make a key with `python -m hearth_local keys create`, or set HEARTH_ALLOW_OPEN=true",
                code="foreign_host",
            )

    def _is_allowed(self, origin: str) -> bool:
        return origin in self.origins or "*" in self.origins


def _is_address(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
