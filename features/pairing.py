"""Two versions side by side: which of their files are the same, and which rows of the others have the same keys."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from features.reading import ShardReader
from features.view import StoredView

Files = dict[tuple[str, str | None], int]
"""Name and digest of a shard's file -> the shard's index."""


def sample_files(reader: ShardReader) -> Files:
    """The files of the sample table."""
    return {(shard.name, shard.digest): index for index, shard in enumerate(reader.shards)}


def view_files(reader: ShardReader, view: StoredView) -> Files:
    """The files of a view."""
    return {(shard.name, view.digests.get(shard.name)): index for index, shard in enumerate(reader.shards)}


@dataclass(frozen=True)
class Match:
    """Shards by index, in key order: those whose files are in both versions, as the new one counts them, and others."""

    same: list[int]
    old_only: list[int]
    new_only: list[int]

    @classmethod
    def of(cls, old: Files, new: Files) -> "Match":
        """Files with equal name and digest are the same, whatever version they are read from."""
        return cls(
            same=[index for file, index in new.items() if file in old],
            old_only=[index for file, index in old.items() if file not in new],
            new_only=[index for file, index in new.items() if file not in old],
        )


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a shard."""

    index: int
    start: int
    keys: list[str]

    def split(self, bound: str) -> tuple["Part", "Part"]:
        """The rows up to a key, and those after it."""
        cut = bisect_right(self.keys, bound)
        return Part(self.index, self.start, self.keys[:cut]), Part(self.index, self.start + cut, self.keys[cut:])


def whole_shards(indices: Iterable[int], keys_of: Callable[[int], Any]) -> Iterator[Part]:
    """Each shard as one part; keys_of: gives a shard's column of keys."""
    return (Part(index, 0, keys_of(index).to_pylist()) for index in indices)


def side_by_side(old: Iterator[Part], new: Iterator[Part]) -> Iterator[tuple[Part, Part]]:
    """Pairs of parts that cover the same stretch of keys, one of which may be empty; one shard of each is in memory."""
    before, after = next(old, Part(0, 0, [])), next(new, Part(0, 0, []))
    while before.keys or after.keys:
        bound = min(part.keys[-1] for part in (before, after) if part.keys)
        (old_part, before), (new_part, after) = before.split(bound), after.split(bound)
        yield old_part, new_part
        before = before if before.keys else next(old, before)
        after = after if after.keys else next(new, after)


@dataclass
class KeyList:
    """How many keys there are of a kind, and the first of them (all where limit is None)."""

    limit: int | None
    num: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.num += 1
            if self.limit is None or len(self.first) < self.limit:
                self.first.append(key)

    def to_json(self) -> dict[str, Any]:
        return {"num": self.num, "keys": self.first}
