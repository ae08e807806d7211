"""What a manifest lists of each shard, held in a fraction of the memory that Python's own texts take."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import overload

import numpy as np

from features.shards import Shard

_LISTED = ("file", "num_rows", "first_key", "last_key", "digest")  # of a shard beside its name


class Texts:
    """Texts in one piece of memory: each takes some bytes beside its letters, and not fifty."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode(errors="surrogatepass") for text in texts]  # as JSON may have them
        ends = np.cumsum([0, *map(len, encoded)])
        self._letters = b"".join(encoded)
        self._ends = ends.astype(np.min_scalar_type(ends[-1]))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> str:
        """The text at a place from 0 on. Raises IndexError beyond the last one."""
        return self._letters[self._ends[place] : self._ends[place + 1]].decode(errors="surrogatepass")

    def __iter__(self) -> Iterator[str]:
        ends = self._ends.tolist()
        return (self._letters[start:stop].decode(errors="surrogatepass") for start, stop in pairwise(ends))


class Names(Texts):
    """Texts that differ, and the place of each."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises ValueError if two are the same."""
        super().__init__(texts)
        order = sorted(range(len(texts)), key=texts.__getitem__)
        if twice := [texts[place] for place, behind in pairwise(order) if texts[place] == texts[behind]]:
            raise ValueError(f"two shards have the name {twice[0]!r}")
        self._order = np.array(order, np.min_scalar_type(len(texts)))

    def place(self, text: str) -> int | None:
        """Where the text is; None if it is none of these."""
        found = bisect_left(range(len(self)), text, key=lambda rank: self[int(self._order[rank])])
        place = int(self._order[found]) if found < len(self) else None
        return place if place is not None and self[place] == text else None


class ByShard(Mapping[str, str]):
    """A text for each shard, by its name."""

    def __init__(self, names: Names, texts: Iterable[str]) -> None:
        """texts: in the order of the names."""
        self._names = names
        self._texts = Texts(texts)

    def __getitem__(self, name: str) -> str:
        if (place := self._names.place(name)) is None:
            raise KeyError(name)
        return self._texts[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Shards(Sequence[Shard]):
    """Shards, each made when it is asked for."""

    def __init__(
        self,
        names: Names,
        files: Iterable[str],
        num_rows: Iterable[int],
        first_keys: Iterable[str | None],
        last_keys: Iterable[str | None],
        digests: Iterable[str],
    ) -> None:
        """All that is known of each shard, in the order of the names."""
        self.names = names
        self.num_rows = np.fromiter(num_rows, np.int64, len(names))
        self._first_keys, self._last_keys = (Texts(key or "" for key in keys) for keys in (first_keys, last_keys))
        self._files, self._digests = Texts(files), Texts(digests)

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> "Shards":
        """The same shards, in their order. Raises ValueError if two have the same name."""
        listed = list(shards)
        names = Names([shard.name for shard in listed])
        return cls(names, *([getattr(shard, what) for shard in listed] for what in _LISTED))

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
        num_rows = int(self.num_rows[place])
        first, last = (self._first_keys[place], self._last_keys[place]) if num_rows else (None, None)
        return Shard(self.names[place], self._files[place], num_rows, first, last, self._digests[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
