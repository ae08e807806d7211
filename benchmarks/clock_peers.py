"""Another library's offset between two recordings, in an environment of its own: python clock_peers.py NAME A.npy B.npy

Prints one JSON object: offset_s, by which the second starts after the first, and the seconds that it took. Both
libraries decode with ffmpeg; what they do with the decoded samples is called here, on the samples that Plait is given.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import soxr

RATE_HZ = 16_000
_PEER_RATE_HZ = 8000  # audio-offset-finder's default
_SYNCSTART_TAKE_S = 1300  # its 'take': enough for offsets of 10 minutes; of an hour it would need more than 8 GB


def audio_offset_finder(reference_T: np.ndarray, other_T: np.ndarray) -> float:
    """Correlation of MFCCs; a frame is 16 ms."""
    from audio_offset_finder.audio_offset_finder import find_offset_between_buffers

    found: dict[str, Any] = find_offset_between_buffers(reference_T, other_T, _PEER_RATE_HZ)
    return float(found["time_offset"])


def syncstart(reference_T: np.ndarray, other_T: np.ndarray) -> float:
    """Correlation of the samples."""
    from syncstart import corrabs

    taken = _SYNCSTART_TAKE_S * _PEER_RATE_HZ
    _, _, padsize, place, _ = corrabs(reference_T[:taken], other_T[:taken])
    return float((place if place <= padsize // 2 else place - padsize) / _PEER_RATE_HZ)


PEERS = {"audio-offset-finder": audio_offset_finder, "syncstart": syncstart}


def main() -> None:
    name, *paths = sys.argv[1:]
    waves = [soxr.resample(np.load(path), RATE_HZ, _PEER_RATE_HZ) for path in paths]
    PEERS[name](waves[0][:80_000], waves[1][:80_000])  # imports and compiles
    started_s = time.perf_counter()
    offset_s = PEERS[name](*waves)
    print(json.dumps({"offset_s": offset_s, "seconds": time.perf_counter() - started_s}))


if __name__ == "__main__":
    main()
