"""The manifest: what a version of the feature store consists of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa

from features.compact import ByShard, Columns, Names, Rows, Shards, listed_row
from features.errors import StoreError
from features.paging import paged
from features.rev import DIGEST_CHARS, digest_bytes, digest_pieces
from features.shards import replacing
from features.view import DTYPES, StoredView

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
SAMPLES_FOLDER = "samples"
REJECTS_FILE = "rejects.parquet"  # of a stage; a store's name holds a digest, so that versions do not share it

_NO_DIGEST = "0" * DIGEST_CHARS  # stands where the digest will be, while the text is digested
# The columns of a row: a shard's file, num_rows, first_key, last_key, digest; and a view's file, digest.
_SHARD_ROW: tuple[set[type], ...] = ({str}, {int}, {str, NoneType}, {str, NoneType}, {str})
_FILE_ROW: tuple[set[type], ...] = ({str}, {str})
_VIEW_TYPES = {name: getattr(hint, "__origin__", hint) for name, hint in get_type_hints(StoredView).items()}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The shards in key order, the views over them, and the settings of the steps that made them.

    Raises ValueError if a view does not have the very shards that the samples have, or a reduced one no base or fit.
    """

    shards: Shards
    views: dict[str, StoredView]
    steps: dict[str, Any]
    rejects: str  # file of the rejects table

    def __post_init__(self) -> None:
        for name, view in self.views.items():
            if not (self._are_all(view.files) and self._are_all(view.digests)):
                num_shards = len(self.shards)
                raise ValueError(f"view {name!r} has {len(view.files)} shards, which are not the samples' {num_shards}")
            if (view.base is None) != (view.fit is None) or view.base not in (None, *self.views):
                raise ValueError(f"view {name!r} is made from {view.base!r} by the fit {view.fit!r}")

    def _are_all(self, listed: Mapping[str, str]) -> bool:
        names = self.shards.names
        return (isinstance(listed, ByShard) and listed.names is names) or listed.keys() == set(names)

    @property
    def num_rows(self) -> int:
        return int(self.shards.num_rows.sum())

    @property
    def file_names(self) -> set[str]:
        """All files of the version but the manifest itself, as "samples/<file>"."""
        names = {self.rejects, *(f"{SAMPLES_FOLDER}/{shard.file}" for shard in self.shards)}
        names |= {f"{view.name}/{view.fit_file}" for view in self.views.values() if view.fit_file}
        return names | {f"{view.name}/{file}" for view in self.views.values() for file in view.files.values()}

    def save(self, folder: Path, name: str = MANIFEST_FILE) -> None:
        """Write it into the folder, whole or not at all."""
        content = {
            "digest": _NO_DIGEST,  # of this very text: it tells when a byte of it was changed
            "format_version": FORMAT_VERSION,
            "rejects": self.rejects,
            "shards": [listed_row(shard) for shard in self.shards],
            "views": {name: self._view_json(view) for name, view in self.views.items()},
            "steps": self.steps,
        }
        # Names of files may hold bytes that are no UTF-8; backslashreplace writes those as the escapes that JSON knows.
        text = (_json_lines(content) + "\n").encode("utf-8", "backslashreplace")
        with replacing(folder / name) as temporary:
            temporary.write_bytes(text.replace(_NO_DIGEST.encode(), digest_bytes(text).encode(), 1))

    def _view_json(self, view: StoredView) -> dict[str, Any]:
        """All that is known of a view, its files and their digests in the order of the shards."""
        known = {name: value for name, value in vars(view).items() if name != "digests"}
        return {**known, "files": [[view.files[shard.name], view.digests[shard.name]] for shard in self.shards]}


def parse_manifest(text: bytes, folder: Path) -> Manifest:
    """A store's manifest from its text; folder: what messages name.

    Raises StoreError if another format wrote it, or it is not the text that was written.
    """
    path = folder / MANIFEST_FILE
    try:
        content, rows = _parse(text)
    except ValueError as error:
        raise StoreError(f"{path} is no JSON ({error}): restore it with 'dvc checkout {folder}'") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(found, int) and found < FORMAT_VERSION:
        raise StoreError(f"{path} has the older format {found}: remove {folder} and run 'dvc repro embed'")
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format {found}; this Plait reads format {FORMAT_VERSION}: install the matching one"
        )
    digest = str(content.get("digest"))
    if _digest_without(text, digest.encode(errors="replace")) != digest:
        raise StoreError(f"{path} is damaged or was edited: restore it with 'dvc checkout {folder}'")
    try:
        return _manifest(content, rows)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is not as its format says ({error!r}): restore it with 'dvc checkout {folder}'"
        ) from error


def _digest_without(text: bytes, digest: bytes) -> str:
    """What the digest of the text was before it was put into it."""
    place, whole = text.find(digest), memoryview(text)
    pieces: list[bytes | memoryview] = [whole[:place], _NO_DIGEST.encode(), whole[place + len(digest) :]]
    return digest_pieces([(sum(map(len, pieces)), pieces)])


def _parse(text: bytes) -> tuple[Any, list[Rows]]:
    """The JSON of a manifest, but for the rows of shards and files: {"rows": n} stands for the n-th of these."""
    rows: list[Rows] = []
    views = text.find(b'\n "views": ') % (len(text) + 1)  # at the end if there are none
    head = _without_rows(text, range(views), b'\n "shards": ', rows)
    tail = _without_rows(text, range(views, len(text)), b'\n   "files": ', rows)
    return json.loads(b"".join([*head, *tail])), rows


def _without_rows(text: bytes, part: range, name: bytes, rows: list[Rows]) -> Iterator[bytes]:
    """A part of the text without the rows that stand, a line for each, in lists of this name."""
    indent = name[: name.index(b'"')]
    place = part.start
    while (found := text.find(name + b"[\n", place, part.stop)) >= 0:
        start = found + len(name) + 2
        end = text.index(indent + b"]", start)
        yield text[place : found + len(name)] + b'{"rows": %d}' % len(rows)
        rows.append(Rows(memoryview(text)[start : end + 1]))
        place = end + len(indent) + 1
    yield text[place : part.stop]


def _manifest(content: Mapping[str, Any], rows: Sequence[Rows]) -> Manifest:
    names: list[str] = []
    num_rows: list[int] = []
    shards = _rows(content["shards"], rows)
    for files, numbers, *_ in _checked(shards, _SHARD_ROW):
        names += [file.partition("-")[0] for file in files]
        num_rows += numbers
    held = Names(names)
    return Manifest(
        shards=Shards(held, shards, paged([np.array(num_rows)], np.int64)),
        views={name: _view(view, held, rows) for name, view in content["views"].items()},
        steps=_typed(content["steps"], dict),
        rejects=_typed(content["rejects"], str),
    )


def _view(content: Mapping[str, Any], names: Names, rows: Sequence[Rows]) -> StoredView:
    listed, left = _rows(content["files"], rows), iter(names)
    in_order = [all(map(str.startswith, files, left)) for files, _ in _checked(listed, _FILE_ROW)]
    if len(listed) != len(names) or not all(in_order):
        raise ValueError("files of a view are not in the order of the shards")
    by_shard = {"files": ByShard(names, listed, 0), "digests": ByShard(names, listed, 1)}
    fields = {name: _typed(value, _VIEW_TYPES[name]) for name, value in {**content, **by_shard}.items()}
    if fields["dtype"] not in DTYPES or fields["dim"] < 1:
        raise ValueError(f"a vector of {fields['dim']} {fields['dtype']}")
    return StoredView(**fields)


def _rows(value: Any, rows: Sequence[Rows]) -> Rows:
    return rows[value["rows"]] if isinstance(value, dict) else Rows.of(_typed(value, list))


def _checked(rows: Rows, types: Sequence[set[type]]) -> Iterator[Columns]:
    """The rows as columns of these types; several times faster than a look at each row."""
    for columns in rows.blocks():
        for column, allowed in zip(columns, types, strict=True):
            if not allowed.issuperset(map(type, column)):
                raise TypeError(f"{column[0]!r} or one below it is no {' or '.join(kind.__name__ for kind in allowed)}")
        yield columns


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind}")
    return value


def _json_lines(content: Any, indent: str = "\n") -> str:
    """JSON with a line for each entry of a mapping and each row of a list of rows: one shard is one line."""
    deeper = indent + " "
    if isinstance(content, dict) and content:
        entries = (f"{_json(name)}: {_json_lines(content[name], deeper)}" for name in sorted(content))
        return f"{{{deeper}{f',{deeper}'.join(entries)}{indent}}}"
    if isinstance(content, list) and content and isinstance(content[0], list | tuple):
        return f"[{deeper}{f',{deeper}'.join(map(_json, content))}{indent}]"
    return _json(content)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True)


@cache
def view_schema(*, dim: int, dtype: str, is_sequence: bool) -> pa.Schema:
    """Schema of a view's shards.

    embedding is one vector a sample, or one a frame with the frame's interval in start_s and end_s (seconds from the
    start of the sample). An absent embedding is null, and its vector NaN, so that a plain memory map shows it too.
    """
    vector = pa.list_(pa.float16() if dtype == "float16" else pa.float32(), dim)
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("feature_key", pa.string(), nullable=False)]
    if not is_sequence:
        return pa.schema([*fields, pa.field("embedding", vector)])
    times = pa.list_(pa.float64())
    return pa.schema(
        [*fields, pa.field("embedding", pa.list_(vector)), pa.field("start_s", times), pa.field("end_s", times)]
    )
