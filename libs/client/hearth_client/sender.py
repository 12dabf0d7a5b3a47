"""The two that carry requests out: `Sender` waits, `AsyncSender` is awaited. Nothing else here knows the network."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from hearth_client.errors import HearthClientError, NotReached, Refused, Unavailable, UnexpectedReply, refusal
from hearth_client.request import Follow, Pause, Request, Step, Steps
from hearth_client.settings import CONNECT_SECONDS, ClientSettings

T = TypeVar("T")

FOLLOW_SILENCE_SECONDS = 45.0  # a follower hears something every 15 s
FOLLOW_PAUSE_SECONDS = 0.2  # before a stream that broke off is asked for again
LONG_PATIENCE = 600.0
"""Seconds for which what is followed or waited for outlives a platform that is out of reach."""

_BACKOFF = wait_random_exponential(multiplier=0.2, max=5)


def _options(settings: ClientSettings, verify: Any) -> dict[str, Any]:
    timeout = httpx.Timeout(60, connect=CONNECT_SECONDS)
    return {
        "base_url": f"{settings.url}/api/v1/",
        "headers": settings.headers,
        "timeout": timeout,
        "verify": verify,
        "mounts": settings.direct,
    }


def _built(http: httpx.Client | httpx.AsyncClient, asked: Request[Any]) -> httpx.Request:
    params = {name: value for name, value in asked.params.items() if value is not None}
    timeout = httpx.Timeout(asked.read_seconds, connect=CONNECT_SECONDS)
    return http.build_request(
        asked.method, asked.path.lstrip("/"), params=params, json=asked.json, content=asked.content,
        headers=dict(asked.headers), timeout=timeout,
    )  # fmt: skip


def _read(asked: Request[T], reply: httpx.Response, body: bytes) -> T:
    try:
        return asked.parse(body)
    except ValidationError as error:
        raise _unreadable(reply, error) from error


def _unreadable(reply: httpx.Response, why: object) -> UnexpectedReply:
    return UnexpectedReply(
        f"{reply.request.url} answered with what this client cannot read: {str(why)[:300]}",
        remedy="is it Hearth's address (HEARTH_URL), and of the client's version?",
    )


def _not_reached(settings: ClientSettings, error: httpx.TransportError) -> NotReached:
    why = str(error) or type(error).__name__
    remedy = "start it with `hearth up`, or set HEARTH_URL to where it is"
    return NotReached(f"Hearth does not answer at {settings.url}: {why}", remedy=remedy)


def _passes(asked: Request[Any]) -> Callable[[BaseException], bool]:
    """Whether asking again may help, and does no harm."""

    def check(error: BaseException) -> bool:
        cause = error.__cause__
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            return True  # it never arrived
        return asked.repeatable and isinstance(error, NotReached | Unavailable)

    return check


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Refused) else None
    return _BACKOFF(state) if told is None else told


def _policy(asked: Request[Any], settings: ClientSettings) -> dict[str, Any]:
    patience = settings.patience if asked.patience is None else asked.patience
    return {"retry": retry_if_exception(_passes(asked)), "wait": _wait, "stop": stop_after_delay(patience),
            "reraise": True}  # fmt: skip


class _Followed:
    """How far an event stream was read, and how its next request is made."""

    def __init__(self, follow: Follow[Any]) -> None:
        self.follow = follow
        self.last_id = ""

    def request(self) -> Request[bytes]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        return Request("GET", self.follow.path, bytes, self.follow.params, headers=headers, repeatable=True,
                       patience=LONG_PATIENCE, read_seconds=FOLLOW_SILENCE_SECONDS)  # fmt: skip


class Sender:
    """Carries requests out and waits for them."""

    def __init__(self, settings: ClientSettings, verify: Any = True) -> None:
        self.settings = settings
        self.verify = verify
        self.http = httpx.Client(**_options(settings, verify))

    def run(self, work: Request[T] | Steps[T]) -> T:
        """What the work comes to. Raises HearthClientError."""
        if isinstance(work, Request):
            return self._patiently(work)
        reply, error = None, None
        while True:
            try:
                step = work.send(reply) if error is None else work.throw(error)
            except StopIteration as end:
                value: T = end.value
                return value
            reply, error = None, None
            try:
                reply = self._step(step)
            except HearthClientError as failed:
                error = failed

    def follow(self, follow: Follow[T]) -> Iterator[T]:
        """The events as they come, across broken connections."""
        state, over = _Followed(follow), False
        while not over:
            for attempt in Retrying(**_policy(state.request(), self.settings)):
                with attempt:
                    reply = self._opened(state.request())
            try:
                for event in EventSource(reply).iter_sse():
                    state.last_id = event.id or state.last_id
                    over = event.event == "end"
                    read = follow.read_end if over else follow.read
                    if read is not None:
                        yield read(event.data.encode())
            except httpx.TransportError:
                pass  # gone on with below
            except (SSEError, ValidationError) as error:
                raise _unreadable(reply, error) from error
            finally:
                reply.close()
            if not over:  # it ended without its end
                time.sleep(FOLLOW_PAUSE_SECONDS)

    def _step(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return self._patiently(step)

    def _patiently(self, asked: Request[T]) -> T:
        for attempt in Retrying(**_policy(asked, self.settings)):
            with attempt:
                return self._once(asked)
        raise AssertionError("tenacity reraises")

    def _once(self, asked: Request[T]) -> T:
        reply = self._opened(asked)
        try:
            if asked.sink is None:
                return _read(asked, reply, reply.read())
            for piece in reply.iter_bytes():
                asked.sink(piece, reply.status_code)
            return _read(asked, reply, b"")
        except httpx.TransportError as error:
            raise _not_reached(self.settings, error) from error
        finally:
            reply.close()

    def _opened(self, asked: Request[Any]) -> httpx.Response:
        """A reply that is no refusal, its body not read yet."""
        try:
            reply = self.http.send(_built(self.http, asked), stream=True)
            if reply.is_success:
                return reply
            reply.read()
        except httpx.TransportError as error:
            raise _not_reached(self.settings, error) from error
        raise refusal(reply)


class AsyncSender:
    """Carries requests out; the same as `Sender`, awaited."""

    def __init__(self, settings: ClientSettings, verify: Any = True) -> None:
        self.settings = settings
        self.verify = verify
        self.http = httpx.AsyncClient(**_options(settings, verify))

    async def run(self, work: Request[T] | Steps[T]) -> T:
        """What the work comes to. Raises HearthClientError."""
        if isinstance(work, Request):
            return await self._patiently(work)
        reply, error = None, None
        while True:
            try:
                step = work.send(reply) if error is None else work.throw(error)
            except StopIteration as end:
                value: T = end.value
                return value
            reply, error = None, None
            try:
                reply = await self._step(step)
            except HearthClientError as failed:
                error = failed

    async def follow(self, follow: Follow[T]) -> AsyncIterator[T]:
        """The events as they come, across broken connections."""
        state, over = _Followed(follow), False
        while not over:
            async for attempt in AsyncRetrying(**_policy(state.request(), self.settings)):
                with attempt:
                    reply = await self._opened(state.request())
            try:
                async for event in EventSource(reply).aiter_sse():
                    state.last_id = event.id or state.last_id
                    over = event.event == "end"
                    read = follow.read_end if over else follow.read
                    if read is not None:
                        yield read(event.data.encode())
            except httpx.TransportError:
                pass  # gone on with below
            except (SSEError, ValidationError) as error:
                raise _unreadable(reply, error) from error
            finally:
                await reply.aclose()
            if not over:  # it ended without its end
                await asyncio.sleep(FOLLOW_PAUSE_SECONDS)

    async def _step(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        return await self._patiently(step)

    async def _patiently(self, asked: Request[T]) -> T:
        async for attempt in AsyncRetrying(**_policy(asked, self.settings)):
            with attempt:
                return await self._once(asked)
        raise AssertionError("tenacity reraises")

    async def _once(self, asked: Request[T]) -> T:
        reply = await self._opened(asked)
        try:
            if asked.sink is None:
                return _read(asked, reply, await reply.aread())
            async for piece in reply.aiter_bytes():
                asked.sink(piece, reply.status_code)
            return _read(asked, reply, b"")
        except httpx.TransportError as error:
            raise _not_reached(self.settings, error) from error
        finally:
            await reply.aclose()

    async def _opened(self, asked: Request[Any]) -> httpx.Response:
        """A reply that is no refusal, its body not read yet."""
        try:
            reply = await self.http.send(_built(self.http, asked), stream=True)
            if reply.is_success:
                return reply
            await reply.aread()
        except httpx.TransportError as error:
            raise _not_reached(self.settings, error) from error
        raise refusal(reply)
