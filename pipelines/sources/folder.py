"""A folder of files: those of one stem are one sample."""

from pathlib import PurePosixPath
from typing import Any

from features.errors import SourceError
from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import RawSample, file_ref, is_text, read_file
from pipelines.sources.names import (
    INLINE,
    column_of,
    column_of_json,
    lost_inline,
    preference,
    split_suffix,
    take_inline,
)


def list_folder(source: str, fs: Any, root: str) -> tuple[list[RawSample], list[Reject]]:
    """The samples below a folder; the key is the path from it, without the suffix.

    A file that is of no known kind, or the second of its kind for one stem, is a reject. Of several transcripts the one
    that tells the most is taken; a .json file is one if it has the segments or words that Whisper writes.
    """
    samples: dict[str, RawSample] = {}
    places: dict[tuple[str, str], str] = {}
    rejects: list[Reject] = []
    for relative in sorted(_files(fs, root), key=lambda name: preference(split_suffix(name)[1])):
        key, suffix = split_suffix(relative)
        uri = f"{source.rstrip('/')}/{relative}"
        column = _column(suffix, uri)
        if column is None:
            text = f"{relative}: files with suffix {suffix!r} are of no use here: {_cure(key, suffix)}"
            rejects.append(Reject(relative, "ingest", Reason.UNKNOWN_FILE, "part", text))
        elif not is_text(relative):
            text = f"{relative}: its name is no valid UTF-8: rename it"
            rejects.append(Reject(relative, "ingest", Reason.UNREADABLE, "sample", text))
        elif (kept := places.setdefault((key, column), relative)) != relative:
            text = f"{relative} is a second {column} beside {kept}, which is kept: give one of them another stem"
            rejects.append(Reject(key, "ingest", Reason.DUPLICATE, "part", text))
        else:
            sample = samples.setdefault(key, RawSample(key=key, where=f"file {relative}"))
            lost = _take(sample, column, uri)
            rejects += [lost] if lost else []
    if not samples:
        raise SourceError(f"{source} holds no text, image, audio or video: point ingest.source at recordings")
    return list(samples.values()), rejects


def _files(fs: Any, root: str) -> list[str]:
    """All files below the root that are not hidden, relative to it. A folder that cannot be listed is an error, where
    fs.find() and fs.walk() would leave it out."""
    files, folders = [], [root]
    while folders:
        folder = folders.pop()
        for entry in fs.ls(folder, detail=True):
            path = entry["name"].rstrip("/")
            if path == folder.rstrip("/") or PurePosixPath(path).name.startswith("."):
                continue
            if entry["type"] == "directory":
                folders.append(path)
            else:
                files.append(str(PurePosixPath(path).relative_to(root)))
    return sorted(files)


def _column(suffix: str, uri: str) -> str | None:
    column = column_of(suffix)
    if column != "meta" or not is_text(uri):
        return column
    try:
        return column_of_json(read_file(file_ref(uri)))
    except OSError:
        return column  # where it is a reject with the cause


def _cure(key: str, suffix: str) -> str:
    if suffix.lower() == ".csv":
        return f"if it holds intervals, call it {key}.transcript.csv or {key}.labels.csv"
    return "remove it or name it in a manifest"


def _take(sample: RawSample, column: str, uri: str) -> Reject | None:
    if column not in INLINE:
        sample.files[column] = file_ref(uri)
        return None
    try:
        content = read_file(file_ref(uri))
    except OSError as error:
        return lost_inline(sample, column, Reason.UNREADABLE, f"cannot be read ({error.strerror or error})")
    return take_inline(sample, column, content)
