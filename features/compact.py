"""What a manifest lists of each shard, held in next to no memory."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, overload

import numpy as np

from features.paging import paged
from features.shards import Shard

_BLOCK_ROWS, _BLOCK_LETTERS = 256, 1 << 16  # are read at once
_NEWLINE = 10

Columns = tuple[tuple[Any, ...], ...]


class Rows:
    """Rows of JSON, each read when it is asked for."""

    def __init__(self, lines: bytes | memoryview) -> None:
        """lines: with a row in each, and a comma behind it where another follows."""
        letters = np.frombuffer(lines, np.uint8)
        starts = range(0, len(letters), _BLOCK_LETTERS)
        ends = (start + 1 + np.flatnonzero(letters[start : start + _BLOCK_LETTERS] == _NEWLINE) for start in starts)
        self._ends = paged(chain([np.zeros(1)], ends), np.int64)
        self._lines = paged([letters], np.uint8)

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]]) -> "Rows":
        """The same rows, in their order."""
        return cls(b"".join(json.dumps(row).encode() + b",\n" for row in rows))

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self._lines.tobytes(),)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> Any:
        """The row at a place from 0 on. Raises IndexError beyond the last one."""
        return self._read(place, place + 1)[0]

    def blocks(self) -> Iterator[Columns]:
        """The columns of some rows after those of others. Raises ValueError for rows that are not equally long."""
        for start in range(0, len(self), _BLOCK_ROWS):
            yield tuple(zip(*self._read(start, min(start + _BLOCK_ROWS, len(self))), strict=True))

    def _read(self, start: int, stop: int) -> Any:
        lines = str(self._lines[self._ends[start] : self._ends[stop]].data, "utf-8").rstrip(",\n")
        return json.loads(f"[{lines}]")


class Texts:
    """Texts one behind the other, in pages: each takes some bytes beside its letters, and not fifty."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode(errors="surrogatepass") for text in texts]  # as JSON may have them
        ends = np.cumsum([0, *map(len, encoded)])
        self._letters = paged([np.frombuffer(b"".join(encoded), np.uint8)], np.uint8)
        self._ends = paged([ends], np.min_scalar_type(ends[-1]))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> str:
        """The text at a place from 0 on. Raises IndexError beyond the last one."""
        return str(self._letters[self._ends[place] : self._ends[place + 1]].data, "utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        ends = self._ends.tolist()
        return (str(self._letters[start:stop].data, "utf-8", "surrogatepass") for start, stop in pairwise(ends))


class Names(Texts):
    """Texts that differ, and the place of each."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises ValueError if two are the same."""
        super().__init__(texts)
        order = sorted(range(len(texts)), key=texts.__getitem__)
        if twice := [texts[place] for place, behind in pairwise(order) if texts[place] == texts[behind]]:
            raise ValueError(f"two shards have the name {twice[0]!r}")
        self._order = paged([np.array(order, np.int64)], np.min_scalar_type(len(texts)))

    def place(self, text: str) -> int | None:
        """Where the text is; None if it is none of these."""
        found = bisect_left(range(len(self)), text, key=lambda rank: self[int(self._order[rank])])
        place = int(self._order[found]) if found < len(self) else None
        return place if place is not None and self[place] == text else None


class ByShard(Mapping[str, str]):
    """What is in a column of a row for each shard, by its name."""

    def __init__(self, names: Names, rows: Rows, column: int) -> None:
        """rows: in the order of the names."""
        self.names = names
        self._rows = rows
        self._column = column

    def __getitem__(self, name: str) -> str:
        if (place := self.names.place(name)) is None:
            raise KeyError(name)
        return str(self._rows[place][self._column])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Shards(Sequence[Shard]):
    """Shards, each made when it is asked for."""

    def __init__(self, names: Names, rows: Rows, num_rows: np.ndarray) -> None:
        """rows: of each shard in the order of the names, all that a Shard has behind its name; num_rows: int64."""
        self.names = names
        self.num_rows = num_rows
        self._rows = rows

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> "Shards":
        """The same shards, in their order. Raises ValueError if two have the same name."""
        listed = list(shards)
        num_rows = np.array([shard.num_rows for shard in listed], np.int64)
        return cls(Names([shard.name for shard in listed]), Rows.of(map(listed_row, listed)), num_rows)

    def filled(self) -> "Shards":
        """Those that have rows."""
        return self if self.num_rows.all() else Shards.of(shard for shard in self if shard.num_rows)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Shard: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Shard]: ...

    def __getitem__(self, place: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(place, slice):
            return [self[index] for index in range(len(self))[place]]
        place = range(len(self))[place]
        return Shard(self.names[place], *self._rows[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def listed_row(shard: Shard) -> list[Any]:
    """What is known of a shard but its name, with which its file begins."""
    return list(vars(shard).values())[1:]
