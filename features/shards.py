"""Shards: where they are cut, how they are named, and how they reach the disk whole."""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ShardError, StoreError
from features.rev import digest_bytes, digest_file
from features.sample import REJECT_SCHEMA

NAME_CHARS = 16
_FLUSH_BYTES = 32 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Shard:
    """One file of consecutive samples, as a manifest lists it; first_key and last_key are null when it is empty."""

    name: str
    file: str
    num_rows: int
    first_key: str | None
    last_key: str | None
    digest: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def cut_shards(keys: Sequence[str], target_rows: int) -> list[range]:
    """Cut sorted keys into shards of about target_rows, between a quarter and four times of it.

    A shard ends after the first key whose hash is small enough; where none is within the maximum, after the key
    with the smallest hash. So an added or removed key moves the ends near itself and no others.
    Raises ValueError if the keys do not rise strictly.
    """
    if target_rows < 1:
        raise ValueError(f"target_rows is {target_rows}; it must be at least 1")
    if any(a >= b for a, b in pairwise(keys)):
        raise ValueError("keys must rise strictly: sort them and remove duplicates first")
    smallest, largest = max(1, target_rows // 4), target_rows * 4
    threshold = (1 << 64) // max(1, target_rows - smallest + 1)
    digests = b"".join([hashlib.sha256(key.encode()).digest() for key in keys])
    hashes = np.frombuffer(digests, "<u8")[::4].tolist()  # the first eight bytes of each
    shards, start = [], 0
    while start < len(keys):
        stop = _shard_end(hashes, start, smallest, largest, threshold)
        shards.append(range(start, stop))
        start = stop
    return shards


def _shard_end(hashes: Sequence[int], start: int, smallest: int, largest: int, threshold: int) -> int:
    window = range(start + smallest - 1, min(start + largest, len(hashes)))
    for index in window:
        if hashes[index] < threshold:
            return index + 1
    if start + largest > len(hashes):
        return len(hashes)
    return min(window, key=hashes.__getitem__) + 1


def shard_name(first_key: str) -> str:
    """Name of the shard that begins with the key."""
    return digest_bytes(first_key.encode())[:NAME_CHARS]


def shard_file(name: str, fingerprint: str, suffix: str = ".arrow") -> str:
    """File name of a shard: the same inputs give the same name, so a file that exists is a shard that is done."""
    return f"{name}-{fingerprint[:NAME_CHARS]}{suffix}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside the given one, renamed onto it when the block ends well and removed when it does not.

    Raises OSError with the given path where the disk has no room left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        # Neither Arrow nor a plain write says which file it was.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Replace the file by the content, whole or not at all."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        # Names of files may hold bytes that are no UTF-8; backslashreplace writes those as the escapes that JSON knows.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


class ShardWriter:
    """Appends rows to an Arrow IPC file in record batches whose ends depend on the rows alone."""

    def __init__(self, sink: pa.RecordBatchFileWriter, schema: pa.Schema) -> None:
        self._sink = sink
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._num_bytes = 0
        self.num_rows = 0
        self.first_key: str | None = None
        self.last_key: str | None = None

    def append(self, row: dict[str, Any]) -> None:
        self.first_key = row["key"] if self.num_rows == 0 else self.first_key
        self.last_key = row["key"]
        self.num_rows += 1
        self._rows.append(row)
        self._num_bytes += sum(_size(value) for value in row.values())
        if self._num_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._sink.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._rows, self._num_bytes = [], 0


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(_size(entry) for entry in value)
    if isinstance(value, dict):
        return sum(_size(entry) for entry in value.values())
    return len(value) if isinstance(value, bytes | str | memoryview) else 8


@contextmanager
def shard_writer(path: Path, schema: pa.Schema) -> Iterator[ShardWriter]:
    """Write one shard: it appears under its name only when it is complete and has been read back."""
    with replacing(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as sink:
            writer = ShardWriter(sink, schema)
            yield writer
            writer.flush()
        num_rows = sum(batch.num_rows for batch in iter_batches(temporary))
        if num_rows != writer.num_rows:
            raise ShardError(
                f"shard {path.name} reads back {num_rows} rows of {writer.num_rows}: is the disk sound? Run again"
            )


def iter_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow IPC file, memory-mapped. Raises ShardError if the file is damaged."""
    with _naming_damage(path, "Arrow"), pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            _check_sound(batch)
            yield batch


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole shard, or some of its columns, as a table over its memory map: nothing is copied.

    Raises ShardError if the file is damaged; of columns that are left out only their place in the file is looked at.
    """
    with _naming_damage(path, "Arrow"), pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source.read_buffer()).read_all()  # opens in half the time that it takes over the map
        table = table if columns is None else table.select(columns)
        _check_sound(table)
        return table


def read_rejects(path: Path) -> pa.Table:
    """The table of what was lost, as REJECT_SCHEMA has it. Raises ShardError if the file is damaged."""
    with _naming_damage(path, "Parquet"), pq.ParquetFile(path) as file:
        table = file.read()
        _check_sound(table)
        if not table.schema.equals(REJECT_SCHEMA):
            raise pa.ArrowInvalid(f"columns are {', '.join(table.schema.names)}, not {', '.join(REJECT_SCHEMA.names)}")
        return table


def _check_sound(rows: pa.Table | pa.RecordBatch) -> None:
    """Look at all offsets and texts: reading through a wrong one would end the process, not raise an error."""
    rows.validate(full=True)
    rows.schema.names  # noqa: B018  # reading them raises what is no UTF-8


@contextmanager
def _naming_damage(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's: no such file, no permission
            raise
        said = " ".join(str(error).split())
        if said.startswith("Memory mapping file failed"):  # these words are all that Arrow gives
            raise StoreError(
                f"{path} cannot be mapped into memory ({said}): a process has room for as many files as "
                "vm.max_map_count says, usually 65,530; raise that, or set embed.shard_samples larger for fewer files"
            ) from error
        raise ShardError(f"{path} is no whole {kind} file ({said}): delete it and run 'dvc repro'") from error


def describe_shard(name: str, path: Path) -> Shard:
    """The manifest's entry of a finished shard, read from the file itself."""
    keys = read_shard(path).column("key")
    num_rows = len(keys)
    first, last = (keys[0].as_py(), keys[num_rows - 1].as_py()) if num_rows else (None, None)
    return Shard(name, path.name, num_rows, first, last, digest_file(path))
