"""A cache of bounded size for threads that share what they open."""

from contextlib import suppress
from typing import Generic, TypeVar

Name = TypeVar("Name")
Kept = TypeVar("Kept")


class Recent(Generic[Name, Kept]):
    """The things that were kept last, by name. To ask for one is no more than a look into a dictionary."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: dict[Name, Kept] = {}
        self.get = self._things.get

    def all(self) -> list[tuple[Name, Kept]]:
        """Names and things, the oldest first."""
        return list(self._things.items())

    def keep(self, name: Name, thing: Kept) -> Kept:
        """Keep a thing, in place of the oldest one if there are as many as there may be."""
        self._things[name] = thing
        while len(self._things) > self._most:
            with suppress(KeyError, RuntimeError):  # another thread has just let one go
                del self._things[next(iter(self._things))]
        return thing
