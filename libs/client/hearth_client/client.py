"""`Hearth` and `AsyncHearth`: one platform, by its public address."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hearth_client.datasets import AsyncDatasets, Datasets
from hearth_client.resources import (
    AsyncDeploy,
    AsyncFinetune,
    AsyncJobs,
    AsyncKeys,
    AsyncModels,
    AsyncSystem,
    AsyncUsage,
    Deploy,
    Finetune,
    Jobs,
    Keys,
    Models,
    System,
    Usage,
)
from hearth_client.sender import AsyncSender, Sender
from hearth_client.settings import ClientSettings, client_settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

UNUSED_KEY = "unused"
"""What OpenAI's client sends where no key is needed: it insists on one."""


class Hearth:
    """A platform.

    `url` and `api_key` are HEARTH_URL and HEARTH_API_KEY where they are not given. `patience` is for how many seconds a
    call is tried again while Hearth is out of reach. `verify` is httpx's: an SSL context for a certificate of your own.
    """

    def __init__(self, url: str = "", api_key: str = "", *, patience: float = 30.0, verify: Any = True) -> None:
        self.settings = client_settings(url, api_key, patience)
        sender = self._sender = Sender(self.settings, verify)
        self.models = Models(sender)
        self.datasets = Datasets(sender)
        self.finetune = Finetune(sender)
        self.deploy = Deploy(sender)
        self.jobs = Jobs(sender)
        self.keys = Keys(sender)
        self.usage = Usage(sender)
        self.system = System(sender)

    def openai(self, **options: Any) -> "OpenAI":
        """OpenAI's own client, pointed at this platform. `options` are its."""
        from openai import DefaultHttpxClient, OpenAI

        http = DefaultHttpxClient(verify=self._sender.verify, mounts=self.settings.direct)
        return OpenAI(**{**_openai(self.settings), "http_client": http, **options})

    def close(self) -> None:
        """Close every connection."""
        self._sender.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()


class AsyncHearth:
    """The same as `Hearth`, awaited: `await client.models.list()`."""

    def __init__(self, url: str = "", api_key: str = "", *, patience: float = 30.0, verify: Any = True) -> None:
        self.settings = client_settings(url, api_key, patience)
        sender = self._sender = AsyncSender(self.settings, verify)
        self.models = AsyncModels(sender)
        self.datasets = AsyncDatasets(sender)
        self.finetune = AsyncFinetune(sender)
        self.deploy = AsyncDeploy(sender)
        self.jobs = AsyncJobs(sender)
        self.keys = AsyncKeys(sender)
        self.usage = AsyncUsage(sender)
        self.system = AsyncSystem(sender)

    def openai(self, **options: Any) -> "AsyncOpenAI":
        """OpenAI's own client, pointed at this platform. `options` are its."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(verify=self._sender.verify, mounts=self.settings.direct)
        return AsyncOpenAI(**{**_openai(self.settings), "http_client": http, **options})

    async def aclose(self) -> None:
        """Close every connection."""
        await self._sender.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self.aclose()


def _openai(settings: ClientSettings) -> dict[str, Any]:
    return {"base_url": f"{settings.url}/v1", "api_key": settings.api_key or UNUSED_KEY}
