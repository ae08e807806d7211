"""Exact nearest neighbours in a store, beside the bare product of the same vectors with the same queries.

The product has all it could wish for: the vectors in memory, as float32 already. Both may use all processors.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from measures import Measure, at_most
from rows import DIM, Rows

_NUM_QUERIES = (1, 8, 64, 256)
_ROUNDS = 5


def neighbours(store: Path, rows: Rows) -> Iterator[Measure]:
    """Time both in a process of their own, in turn."""
    command = [sys.executable, __file__, str(store), str(rows.path), str(rows.num_rows)]
    asked = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(asked.stdout)
    for number, search_s in zip(("first", "second"), found.pop("searches_s"), strict=True):
        yield Measure(f"exact nearest to 1 of {rows.num_rows:,} samples: {number} search of the process", search_s, "s")
    for num_queries, (search_s, product_s, ratio) in found.items():
        name = f"exact nearest to {num_queries} of {rows.num_rows:,} samples"
        yield Measure(name, search_s * 1e3, "ms")
        yield Measure(f"{name}: bare product", product_s * 1e3, "ms")
        yield at_most(f"{name}, over the bare product", ratio, "times", 1.2)


def ask(store: Path, rows: Rows) -> dict[str, list[float]]:
    """For each number of queries: seconds of a search and of a product, and the ratio, medians of the rounds.

    searches_s: the first search, which opens shards and measures the lengths of vectors, and the second, which loads
    the loop for few queries.
    """
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch

    import features

    opened = features.open(store)
    vectors_ND = torch.from_numpy(rows.vectors.astype(np.float32))

    def search(queries_QD: np.ndarray) -> float:
        return _seconds(lambda: opened.nearest("image", queries_QD, approximate=False))

    asked_QD = np.random.default_rng(1).standard_normal((max(_NUM_QUERIES), DIM), np.float32)
    found = {"searches_s": [search(asked_QD[:1]), search(asked_QD[:1])]}
    for num_queries in _NUM_QUERIES:
        columns_DQ = torch.from_numpy(asked_QD[:num_queries]).T
        pairs = []
        for _ in range(_ROUNDS):
            search_s = search(asked_QD[:num_queries])
            pairs.append((search_s, _seconds(lambda columns_DQ=columns_DQ: vectors_ND @ columns_DQ)))
        ratio = median(search_s / product_s for search_s, product_s in pairs)
        found[str(num_queries)] = [*(median(side) for side in zip(*pairs, strict=True)), ratio]
    return found


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


if __name__ == "__main__":
    print(json.dumps(ask(Path(sys.argv[1]), Rows(Path(sys.argv[2]), int(sys.argv[3])))))
