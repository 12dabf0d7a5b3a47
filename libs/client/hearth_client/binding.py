"""Operations written once and carried out by whichever sender the object at hand has."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from hearth_client.request import Follow, Request, Steps
from hearth_client.sender import AsyncSender, Sender

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Its operations return what they come to."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class Async:
    """Its operations are awaited."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender


class operation(Generic[P, T]):
    """A method that says what to ask. Called, it is asked: at once on a `Sync` object, awaited on an `Async` one."""

    def __init__(self, shape: Callable[Concatenate[Any, P], Request[T] | Steps[T]]) -> None:
        self.shape = shape
        self.__doc__ = shape.__doc__

    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> "operation[P, T]": ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """The method of an instance; of the class, this."""
        if instance is None:
            return self

        @wraps(self.shape)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance._sender.run(self.shape(instance, *args, **kwargs))

        return bound


class following(Generic[P, T]):
    """The same for what comes as events: an iterator, or an async one."""

    def __init__(self, shape: Callable[Concatenate[Any, P], Follow[T]]) -> None:
        self.shape = shape
        self.__doc__ = shape.__doc__

    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> "following[P, T]": ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """The method of an instance; of the class, this."""
        if instance is None:
            return self

        @wraps(self.shape)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance._sender.follow(self.shape(instance, *args, **kwargs))

        return bound
