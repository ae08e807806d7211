"""MosaicML Streaming: MDS shards of the default size, uncompressed, read where they lie."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from peers import Peer
from rows import BATCH_SIZE, DIM, key, label


class MosaicStreaming(Peer):
    """By place, a sample at a time. Its default shuffle (py1e) is within blocks of 262,144 samples."""

    def write(self) -> None:
        vectors = self.rows.vectors
        columns = {"key": "str", "label": "int", "vector": f"ndarray:float16:{DIM}"}
        with MDSWriter(out=str(self.folder / "mds"), columns=columns) as sink:
            for place in self.rows.places:
                sink.write({"key": key(place), "label": label(place), "vector": np.asarray(vectors[place])})

    def open(self) -> None:
        clean_stale_shared_memory()  # as its documentation advises where a process may have been killed
        # One for all uses: a folder may be open once.
        self.dataset = StreamingDataset(
            local=str(self.folder / "mds"), batch_size=BATCH_SIZE, shuffle=True, shuffle_seed=0
        )
        self.loaders: dict[int, Any] = {}

    def get(self, address: list[int]) -> np.ndarray:
        return np.stack([sample["vector"] for sample in self.dataset[address]])

    def scan(self) -> Iterator[np.ndarray]:
        for place in range(self.rows.num_rows):
            yield self.dataset[place]["vector"][None]

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            self.loaders[num_workers] = StreamingDataLoader(
                self.dataset, batch_size=BATCH_SIZE, num_workers=num_workers, persistent_workers=num_workers > 0
            )
        for batch in self.loaders[num_workers]:
            yield batch["vector"], batch["label"]
