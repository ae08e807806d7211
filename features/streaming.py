"""Streaming the packed shards through the webdataset library."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from features.errors import StoreError
from features.manifest import MANIFEST_FILE
from features.rev import digest_bytes, seed_of
from features.store import Store

PACKED = "packed"  # the folder beside the store's, where the stages of a project put its shards


def member_stem(key: str) -> str:
    """What the members of a sample are called before their extension, which a reader begins at the first dot."""
    return quote(key, safe="/~@+= ").replace(".", "%2E")


def packed_shards(store: Store, split: str) -> list[Path]:
    """The tars of a split, in the order of the keys.

    Raises StoreError if there are none, or they were packed from another version of the store.
    """
    folder = store.folder.absolute().parent / PACKED
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise StoreError(f"{folder} holds no packed shards: run 'dvc pull' if they were published, or 'dvc repro pack'")
    content = json.loads(path.read_bytes())
    if content.get("store") != digest_bytes(store.files.manifest):
        raise StoreError(f"{folder} was packed from another version than {store.folder} has: run 'dvc repro pack'")
    files = [record["shard"]["file"] for record in content["records"]]
    tars = [folder / file for file in files if file.startswith(f"{split}-")]
    if not tars:
        splits = sorted({file.partition("-")[0] for file in files})
        raise StoreError(f"{folder} has no shards of split {split!r}; it has {', '.join(splits) or 'no sample'}")
    if missing := [tar.name for tar in tars if not tar.is_file()]:
        raise StoreError(f"{folder} lacks {', '.join(missing[:3])}: run 'dvc checkout {folder}' or 'dvc repro pack'")
    return tars


def stream(tars: Sequence[Path], *, shuffle: int, seed: int, epoch: int, decode: bool) -> Any:
    """The samples of the tars as a pipeline of the webdataset library, with its fluid interface."""
    import webdataset

    pipeline = webdataset.compat.FluidWrapper(webdataset.SimpleShardList([str(tar) for tar in tars]))
    if shuffle:
        # Before they are shared out, so that a rank or worker sees other shards in every epoch.
        pipeline.append(_shuffler(len(tars), seed, epoch, "shards"))
    pipeline.append(webdataset.split_by_node)
    pipeline.append(webdataset.split_by_worker)
    pipeline.append(webdataset.tarfile_to_samples())
    if shuffle:
        pipeline.append(_shuffler(shuffle, seed, epoch, "samples"))
    return pipeline.decode("rgb8", decode_sound) if decode else pipeline


def decode_sound(name: str, content: bytes) -> tuple[np.ndarray, int] | None:
    """float32 [sample] and the rate in hertz of a member called flac; for decode() of the webdataset library."""
    if name.rpartition(".")[2] != "flac":
        return None
    import soundfile

    wave_T, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    return wave_T, rate_hz


def _shuffler(num_waiting: int, seed: int, epoch: int, what: str) -> Any:
    from webdataset.filters import detshuffle

    # It adds its number of the pass, from 0 on, to the seed.
    return detshuffle(num_waiting, initial=num_waiting, seed=seed_of(seed, what), epoch=epoch - 1)
