"""Taking secrets out of text that leaves this machine."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from hearth_local.config import PASSED_ON, Config, load_secrets

REMOVED = "[removed]"

SECRET_NAMES = re.compile(r"KEY|SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|OTLP.*HEADERS", re.IGNORECASE)
"""A setting with such a name is not shown, whatever it is: HEARTH_TLS_KEY is a path, and no loss."""

_SHAPES = re.compile(
    r"hearth_[0-9a-f]{12}_[0-9a-f]{8,}"  # API keys
    r"|hf_[A-Za-z0-9]{16,}"  # the hub's tokens
    r"|sk-[A-Za-z0-9_-]{16,}"  # OpenAI's keys
    r"|(?i:(?<=bearer )[^\s\"',]+)"
    r"|(?i:(?<=x-amz-signature=)[0-9a-f]+)"
    r"|(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"  # user and password in an address
)


class Scrubber:
    """Knows the secrets of a platform, and what secrets look like."""

    def __init__(self, known: Iterable[str]) -> None:
        # The longest first: one secret may begin with another.
        self._known = sorted({secret for secret in known if len(secret) >= 6}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without them."""
        for secret in self._known:
            for form in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(form, REMOVED)
        return _SHAPES.sub(REMOVED, text)

    def settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The settings of an environment: the names that programs get, without what is secret."""
        return {
            name: REMOVED if SECRET_NAMES.search(name) else self.text(value)
            for name, value in sorted(environment.items())
            if PASSED_ON.fullmatch(name)
        }


def scrubber_of(config: Config) -> Scrubber:
    """One that knows the passwords of this machine's platform, and what the environment calls a secret."""
    known = [value for name, value in os.environ.items() if SECRET_NAMES.search(name) and value]
    if (config.run / "secrets.env").exists():
        known += asdict(load_secrets(config)).values()
    return Scrubber(known)
