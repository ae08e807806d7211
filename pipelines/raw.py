"""The raw recording: one row of the manifest that ingest writes and clean reads."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa

from features.errors import SourceError, StageError
from features.rev import digest_file, digest_json
from features.sample import SPAN

FILE_COLUMNS = ("image", "audio", "video", "transcript", "labels")
COLUMNS = ("key", "text", *FILE_COLUMNS, "label", "group", "split", "start_s", "end_s")
KEYED_SUFFIXES = (".ctm", ".rttm")  # such a file may tell of several recordings, by their keys
VARIANT_MARK = "~"  # "rec7/0003~1" is the first augmented copy of "rec7/0003"

# A file, or a stretch of one (a member of a tar): offset and size are null for a whole file until it is measured.
# Decoders are told its suffix, which decides between formats that look alike.
FILE = pa.struct(
    [
        ("uri", pa.string()),
        ("suffix", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("digest", pa.string()),
    ]
)

RAW_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("text", pa.string()),
        pa.field("meta", pa.string()),
        *(pa.field(column, FILE) for column in FILE_COLUMNS),
        pa.field("intervals", pa.list_(SPAN)),
    ]
)


@dataclass
class RawSample:
    """What a source tells of one sample, before files are read.

    where: its place in the source, for messages. recording: what the timeline is called that start_s and end_s lie
    on, where several samples may share one; else the sample's own key.
    """

    key: str
    where: str
    recording: str | None = None
    text: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


def file_ref(
    uri: str, *, member: str | None = None, offset: int | None = None, size: int | None = None
) -> dict[str, Any]:
    """A value of FILE whose digest is not known yet. member: what the stretch of a file is called in it."""
    suffix = PurePosixPath(member or uri).suffix.lower()
    return {"uri": uri, "suffix": suffix, "offset": offset, "size": size, "digest": None}


def resolve_uri(uri: str, base: str) -> str:
    """The URI as a worker opens it: base (an absolute folder) goes before a relative path."""
    return uri if "://" in uri or uri.startswith("/") else f"{base}/{uri}"


@contextmanager
def open_uri(uri: str) -> Iterator[BinaryIO]:
    """The file for reading; a local path is taken as it is, whatever it holds that fsspec would read as its own."""
    with fsspec.open(uri, "rb") if "://" in uri else open(uri, "rb") as file:
        yield file


class _NamedBytes(io.BytesIO):
    """A file in memory. libav looks at a file's name where its content alone does not tell the format."""

    name = ""


def read_file(ref: dict[str, Any], base: str = ".") -> bytes:
    """The bytes that a FILE value refers to. Raises StageError if they are not those that ingest digested."""
    with open_uri(resolve_uri(ref["uri"], base)) as file:
        file.seek(ref["offset"] or 0)
        content = bytes(file.read(-1 if ref["offset"] is None else ref["size"]))
    _check_digest(ref, hashlib.sha256(content).hexdigest() if ref["digest"] else None)
    return content


def open_file(ref: dict[str, Any], base: str) -> str | _NamedBytes:
    """What a decoder opens: the path of a whole local file, else its bytes in memory. Raises StageError if they are
    not those that ingest digested."""
    uri = resolve_uri(ref["uri"], base)
    if ref["offset"] is None and "://" not in uri:
        _check_digest(ref, digest_file(uri) if ref["digest"] else None)
        return uri
    file = _NamedBytes(read_file(ref, base))
    file.name = f"file{ref['suffix']}"
    return file


def _check_digest(ref: dict[str, Any], found: str | None) -> None:
    """What is made of a file is kept under its digest, so it must be made of these very bytes."""
    if found != ref["digest"]:
        raise StageError(f"{ref['uri']} changed since ingest digested it: run 'dvc repro' again")


def content_digest(row: dict[str, Any]) -> str:
    """Digest of what a recording consists of, whatever its files and its key are called.

    Its text counts: one picture with two captions is two samples. Labels and transcripts, which describe it, do not.
    """
    files = {column: row[column]["digest"] for column in ("image", "audio", "video") if row[column]}
    intervals = [[span[name] for name in ("start_s", "end_s", "text")] for span in row["intervals"] or ()]
    return digest_json([files, row["text"], intervals])


def source_digest(row: dict[str, Any]) -> str:
    """Digest of all raw content that the media of a recording are made of: its text, the bytes of its files, and the
    suffixes that tell decoders their formats. What files are called and where they lie does not count; the key does
    where it tells which part of a file is of this recording."""
    files = {column: [row[column]["suffix"], row[column]["digest"]] for column in FILE_COLUMNS if row[column]}
    keyed = [row["key"]] if any(suffix in KEYED_SUFFIXES for suffix, _ in files.values()) else []
    return digest_json([files, row["text"], *keyed])


def source_uris(row: dict[str, Any]) -> str:
    """The URIs of a recording's files, space separated."""
    return " ".join(row[column]["uri"] for column in FILE_COLUMNS if row[column])


def check_key(key: str, where: str) -> None:
    """Raise SourceError unless the key can name a sample."""
    if not key or VARIANT_MARK in key or any(ord(char) < 32 for char in key) or not is_text(key):
        raise SourceError(
            f"{where}: key {key!r} must not be empty nor hold {VARIANT_MARK!r}, control characters or bytes that are "
            "no UTF-8: rename it"
        )


def is_text(value: str) -> bool:
    """Whether the string can be written as UTF-8: a file name that is no UTF-8, read by Python, cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in value)
