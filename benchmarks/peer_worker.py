"""One library in a process of its own: asked for one operation a line, it answers with a JSON line.

Run by workers.py: python peer_worker.py MODULE ROWS NUM_ROWS FOLDER
"""

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from peers import NotOffered, Peer
from rows import BATCH_SIZE, ROW_BYTES, Rows

_ENOUGH_S = 0.3  # for one round of an operation that is quick
_MOST_CALLS = 200
_CHECKED_ROWS = 1000


def main() -> None:
    """Answer requests until there are no more."""
    module, path, num_rows, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    peer = _load(module, Rows(Path(path), int(num_rows)), Path(folder))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": _OPERATIONS[request.pop("do")](peer, **request)}
        except NotOffered as reason:
            answer = {"not_offered": str(reason)}
        except Exception as error:  # noqa: BLE001  # a library that fails is part of the result, whatever it raises
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(answer), file=answers, flush=True)


def _load(module: str, rows: Rows, folder: Path) -> Peer:
    """The one class of peers that the module defines."""
    loaded = importlib.import_module(f"peers.{module}")
    kinds = [kind for kind in vars(loaded).values() if isinstance(kind, type) and kind.__module__ == loaded.__name__]
    return next(kind for kind in kinds if issubclass(kind, Peer))(rows, folder)


def write(peer: Peer) -> float:
    """Seconds to write all rows."""
    peer.folder.mkdir()
    return _seconds(peer.write)


def open_it(peer: Peer) -> float:
    """Seconds to open what was written."""
    return _seconds(peer.open)


def checksum(peer: Peer) -> int:
    """The sum of the bits of some vectors as float16, which is the same for all that give the same vectors."""
    vectors = peer.get(peer.address(_places(peer, 0, _CHECKED_ROWS)))
    return int(vectors.astype(np.float16).view(np.uint16).sum(dtype=np.uint64))


def get(peer: Peer, number: int) -> float:
    """Median seconds to get a batch of rows at random places."""
    addresses = [peer.address(_places(peer, 1000 * number + call, BATCH_SIZE)) for call in range(_MOST_CALLS // 10)]
    return _median_seconds(peer.get, addresses)


def one(peer: Peer, number: int) -> float:
    """Median seconds to get one row."""
    places_N = _places(peer, number, _MOST_CALLS)
    return _median_seconds(peer.one, [peer.address(places_N[call : call + 1]) for call in range(_MOST_CALLS)])


def scan(peer: Peer, number: int, budget_s: float) -> float:
    """Bytes of stored vectors a second; every byte that comes is read. Stops when the time is used up."""
    num_rows, total = 0, 0
    started_s = time.perf_counter()
    for vectors in peer.scan():
        total += int(np.add.reduce(vectors.reshape(-1).view(np.int64)))
        num_rows += len(vectors)
        if time.perf_counter() - started_s > budget_s:
            break
    return num_rows * ROW_BYTES / (time.perf_counter() - started_s)


def copy(peer: Peer, number: int, budget_s: float) -> float:
    """Bytes a second of one np.copyto() of all vectors from the system's cache, to memory that is there already."""
    vectors = peer.rows.vectors
    target = np.full(vectors.shape, 1, vectors.dtype)
    return vectors.nbytes / _seconds(lambda: np.copyto(target, vectors))


def epoch(peer: Peer, number: int, num_workers: int, budget_s: float) -> float:
    """Samples a second in shuffled batches; stops when the time is used up."""
    num_samples = 0
    started_s = time.perf_counter()
    batches = peer.epoch(num_workers, number)
    for vectors, labels in batches:
        assert len(vectors) == len(labels), "a batch has as many labels as vectors"
        num_samples += len(vectors)
        if time.perf_counter() - started_s > budget_s:
            break
    return num_samples / (time.perf_counter() - started_s)


def _places(peer: Peer, seed: int, num: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(peer.rows.num_rows, num, replace=False)


def _median_seconds(call: Any, addresses: list[Any]) -> float:
    taken: list[float] = []
    for address in addresses:
        taken.append(_seconds(lambda address=address: call(address)))
        if sum(taken) > _ENOUGH_S:
            break
    return median(taken)


def _seconds(call: Any) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


_OPERATIONS = {
    "write": write,
    "open": open_it,
    "checksum": checksum,
    "get": get,
    "one": one,
    "scan": scan,
    "copy": copy,
    "epoch": epoch,
}

if __name__ == "__main__":
    main()
