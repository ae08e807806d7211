"""Plait alone, as a store grows: opening, random access and memory."""

import ctypes
import gc
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from measures import Measure, at_most
from peers.plait_store import PlaitStore
from rows import BATCH_SIZE, DIM, key, make_rows

_SIZES = (10_000, 100_000, 1_000_000)
_OPENINGS = 9
_GETS = 200
_BATCHES = 50
# Memory is not to grow. This much is no growth: what is kept of a store is half a kilobyte for each of at most 24,576
# files and some tables, and the allocator cannot give all back that was used for a moment.
_MOST_ADDED_MIB = 4


def growth(folder: Path, *, quick: bool) -> Iterator[Measure]:
    """Make stores of rising size and time each in a new process; then remove them."""
    grown = {}
    for num_rows in _SIZES[:-1] if quick else _SIZES:
        place = folder / f"growth{num_rows}"
        place.mkdir()
        command = [sys.executable, __file__, str(place), str(num_rows)]
        subprocess.run([*command, "write"], check=True)
        asked = subprocess.run([*command, "ask"], check=True, stdout=subprocess.PIPE, text=True)
        grown[num_rows] = json.loads(asked.stdout)
        shutil.rmtree(place)
        yield from _measures(num_rows, grown[num_rows])
    least, most = min(grown), max(grown)
    added_bytes = grown[most]["memory_bytes"] - grown[least]["memory_bytes"]
    yield at_most(f"memory added from {least:,} to {most:,} samples", added_bytes / 2**20, "MiB", _MOST_ADDED_MIB)


def _measures(num_rows: int, found: dict[str, float]) -> Iterator[Measure]:
    name = f"{num_rows:,} samples"
    if num_rows == _SIZES[-1]:
        yield at_most(f"{name}: open", found["open_s"] * 1e3, "ms", 50)
    else:
        yield Measure(f"{name}: open", found["open_s"] * 1e3, "ms")
    yield Measure(f"{name}: get of 256 keys", found["get_s"] * 1e6, "us")
    asked = f"opening, {_GETS} gets, a query, a condition and {_BATCHES} shuffled batches"
    yield Measure(f"{name}: memory of {asked}", found["memory_bytes"] / 2**20, "MiB")
    yield Measure(f"{name}: the same and a search for neighbours", found["memory_nearest_bytes"] / 2**20, "MiB")


def write(folder: Path, num_rows: int) -> None:
    """Write a store of so many samples."""
    PlaitStore(make_rows(folder / "rows", num_rows), folder / "store").write()
    (folder / "rows").unlink()


def ask(folder: Path, num_rows: int) -> dict[str, float]:
    """Open the store over and over, get random keys from it, and ask for what is in every shard. Memory is what the
    process alone holds."""
    import features

    before_bytes = _own_bytes()
    open_s = median(_seconds(lambda: features.open(folder / "store")) for _ in range(_OPENINGS))
    store = features.open(folder / "store")
    rng = np.random.default_rng(0)
    taken_s = []
    for _ in range(_GETS):
        keys = [key(place) for place in rng.integers(num_rows, size=BATCH_SIZE).tolist()]
        taken_s.append(_seconds(lambda keys=keys: store.get(keys, "image")))
    get_s = median(taken_s[_GETS // 2 :])  # in the first half shards are still opened
    store.sql("select label, count(*) from samples group by label")
    store.rows(where="label <> '3'")
    for _ in islice(store.batches(["image"], split=None, dtype=None), _BATCHES):
        pass
    memory_bytes = _own_bytes() - before_bytes
    store.nearest("image", rng.standard_normal(DIM))
    return {
        "open_s": open_s,
        "get_s": get_s,
        "memory_bytes": memory_bytes,
        "memory_nearest_bytes": _own_bytes() - before_bytes,
    }


def _own_bytes() -> int:
    """Memory that this process holds and no file backs; the mapped shards are the system's cache."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # as what is free and kept for later comes and goes by megabytes
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


if __name__ == "__main__":
    place, num, do = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if do == "write":
        write(place, num)
    else:
        print(json.dumps(ask(place, num)))
