"""WebDataset tars: members of one base name are one sample; media stay in the tar and are read by their offset."""

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import RawSample, file_ref
from pipelines.sources.names import INLINE, column_of, take_inline


def list_tars(uris: list[str], fs: Any, paths: list[str]) -> tuple[list[RawSample], list[Reject]]:
    """The samples of the tars. A tar that ends early gives what it holds and a reject; so does an unknown member."""
    samples: list[RawSample] = []
    rejects: list[Reject] = []
    for uri, path in zip(uris, paths, strict=True):
        found: dict[str, RawSample] = {}
        with fs.open(path, "rb") as file:
            for entry in _members(file, uri):
                if isinstance(entry, Reject):
                    rejects.append(entry)
                    continue
                reject = _take(found, entry, uri, file)
                rejects += [reject] if reject else []
        samples += found.values()
    return samples, rejects


def _members(file: Any, uri: str) -> Iterator[tarfile.TarInfo | Reject]:
    name = PurePosixPath(uri).name
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    yield member
    except tarfile.ReadError as error:
        text = f"{uri} cannot be read to its end ({error}): fetch it again, uncompressed"
        yield Reject(name, "ingest", Reason.TRUNCATED, "sample", text)


def _take(found: dict[str, RawSample], member: tarfile.TarInfo, uri: str, file: Any) -> Reject | None:
    """The key is the member's path up to the first dot of its file name, as the webdataset library has it."""
    folder, _, name = member.name.rpartition("/")
    base, _, suffix = name.partition(".")
    key = f"{folder}/{base}" if folder else base
    column = column_of(f".{suffix}") or column_of(f".{suffix.rpartition('.')[2]}")
    if column is None:
        text = f"{uri}: member {member.name!r} is of no known kind"
        return Reject(key, "ingest", Reason.UNKNOWN_FILE, "part", text)
    sample = found.setdefault(key, RawSample(key=key, where=f"{uri}, member {member.name}"))
    if column in INLINE:
        position = file.tell()
        file.seek(member.offset_data)
        take_inline(sample, column, file.read(member.size))
        file.seek(position)
    elif column in sample.files:
        text = f"{uri}: member {member.name!r} is a second {column} of {key!r}"
        return Reject(key, "ingest", Reason.DUPLICATE, "part", text)
    else:
        sample.files[column] = file_ref(uri, offset=member.offset_data, size=member.size)
    return None
