"""WebDataset tars: members of one base name are one sample; media stay in the tar and are read by their offset."""

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import RawSample, file_ref, is_text
from pipelines.sources.names import INLINE, column_of, column_of_json, take_inline


def list_tars(uris: list[str], fs: Any, paths: list[str]) -> tuple[list[RawSample], list[Reject]]:
    """The samples of the tars. A tar that ends early gives those that it holds whole and a reject; a member that is
    of no known kind or cannot be used is a reject too."""
    samples: list[RawSample] = []
    rejects: list[Reject] = []
    for uri, path in zip(uris, paths, strict=True):
        with fs.open(path, "rb") as file:
            found, lost = _list_tar(file, uri)
        samples += found
        rejects += lost
    return samples, rejects


def _list_tar(file: Any, uri: str) -> tuple[list[RawSample], list[Reject]]:
    samples: dict[str, RawSample] = {}
    rejects: list[Reject] = []
    taken: set[tuple[str, str]] = set()
    last = PurePosixPath(uri).name
    try:
        for member in _members(file):
            key, column = _place(member.name)
            if column == "meta":
                column = column_of_json(_read(file, member))
            if column is None or not is_text(member.name):
                text = f"{uri}: member {member.name!r} is of no known kind, or its name is no valid UTF-8"
                rejects.append(Reject(key, "ingest", Reason.UNKNOWN_FILE, "part", text))
            elif (key, column) in taken:
                text = f"{uri}: member {member.name!r} is a second {column} of {key!r}"
                rejects.append(Reject(key, "ingest", Reason.DUPLICATE, "part", text))
            else:
                last = key
                taken.add((key, column))
                sample = samples.setdefault(key, RawSample(key=key, where=f"{uri}, member {member.name}"))
                lost = _take(sample, column, member, uri, file)
                rejects += [lost] if lost else []
    except tarfile.ReadError as error:
        samples.pop(last, None)  # more of it may have been to come
        text = f"{uri} cannot be read to its end ({error}), its last sample is left out: fetch it again, uncompressed"
        rejects.append(Reject(last, "ingest", Reason.TRUNCATED, "sample", text))
    return list(samples.values()), rejects


def _members(file: Any) -> Iterator[tarfile.TarInfo]:
    """The files of a tar, without hidden ones. Raises ReadError where it breaks off, also where tarfile takes that
    for its end: a whole tar ends in a block of zeros."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.isfile() and not any(part.startswith(".") for part in PurePosixPath(member.name).parts):
                yield member
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of archive")


def _place(name: str) -> tuple[str, str | None]:
    """Key and column of a member. The key is its path up to the first dot of its file name, as the webdataset library
    has it."""
    folder, _, file = name.rpartition("/")
    base, _, suffix = file.partition(".")
    column = column_of(f".{suffix}") or column_of(f".{suffix.rpartition('.')[2]}")
    return f"{folder}/{base}" if folder else base, column


def _take(sample: RawSample, column: str, member: tarfile.TarInfo, uri: str, file: Any) -> Reject | None:
    if column not in INLINE:
        sample.files[column] = file_ref(uri, member=member.name, offset=member.offset_data, size=member.size)
        return None
    return take_inline(sample, column, _read(file, member))


def _read(file: Any, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return bytes(file.read(member.size))
