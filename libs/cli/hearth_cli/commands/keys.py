"""`hearth keys`: API keys, through the API. The first one is made with `python -m hearth_local keys`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth_client import Hearth
from hearth_contracts.access import ApiKey, KeyRequest, NewKey
from hearth_local.key_commands import key_commands

from hearth_cli.console import hearth


@dataclass(frozen=True)
class _Book:
    """The keys of a platform, as the commands want them."""

    client: Hearth

    def create(self, request: KeyRequest) -> NewKey:
        return self.client.keys.create(request)

    def all(self) -> list[ApiKey]:
        return self.client.keys.list()

    def revoke(self, key_id: str) -> None:
        self.client.keys.revoke(key_id)


@contextmanager
def _book() -> Iterator[_Book]:
    with hearth() as client:
        yield _Book(client)


app = key_commands(_book)
