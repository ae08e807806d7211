"""webdataset: tars of 2,000 samples with an .npy and a .cls each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import webdataset

from peers import NotOffered, Peer
from rows import BATCH_SIZE, key, label

_SHARD_SAMPLES = 2000
_SHUFFLE_SAMPLES = 5000


class WebDatasetTars(Peer):
    """Sequential only. Its shuffle, of shards and in a buffer of samples, is less than a shuffle of all."""

    def write(self) -> None:
        vectors = self.rows.vectors
        pattern = str(self.folder / "rows-%06d.tar")
        # With the current time as mtime, its default, every member has a second header, and reading takes longer.
        with webdataset.ShardWriter(pattern, maxcount=_SHARD_SAMPLES, verbose=0, mtime=0) as sink:
            for place in self.rows.places:
                sink.write({"__key__": key(place), "npy": np.asarray(vectors[place]), "cls": label(place)})

    def open(self) -> None:
        self.urls = sorted(str(path) for path in self.folder.glob("*.tar"))
        self.loaders: dict[int, Any] = {}

    def get(self, address: Any) -> np.ndarray:
        raise NotOffered("tars are read from their beginning")

    def scan(self) -> Iterator[np.ndarray]:
        samples = webdataset.WebDataset(self.urls, shardshuffle=False).decode().to_tuple("npy")
        for (vector,) in samples:
            yield vector[None]

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            samples = webdataset.WebDataset(self.urls, shardshuffle=len(self.urls), seed=0)
            # Batched in the workers and taken as they are, which its documentation calls most efficient.
            batches = samples.shuffle(_SHUFFLE_SAMPLES).decode().to_tuple("npy", "cls").batched(BATCH_SIZE)
            self.loaders[num_workers] = webdataset.WebLoader(
                batches, batch_size=None, num_workers=num_workers, persistent_workers=num_workers > 0
            )
        yield from self.loaders[num_workers]
