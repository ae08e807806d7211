"""Fingerprints of shards: digests of stretches of a table, taken from the memory of its columns."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.rev import DIGEST_CHARS, digest_json

_ABSENT = -1  # in place of a text's length

Parts = Callable[[range], tuple[memoryview, ...]]
"""The bytes that stand for a stretch of a column."""


def fingerprint_spans(settings: Any, rows: pa.Table, spans: Sequence[range]) -> list[str]:
    """Digest of each span of the rows, with the settings: equal settings and values give equal digests, wherever in
    the table the rows lie and whatever lies around them.

    No row is looked at in Python: a million of them take about a second.
    """
    types = {field.name: str(field.type) for field in rows.schema}
    start = hashlib.sha256(digest_json([settings, types]).encode())
    columns = [_parts(column) for column in rows.columns]
    digests = []
    for span in spans:
        sha = start.copy()
        sha.update(len(span).to_bytes(8, "little"))
        for parts in columns:
            for part in parts(span):
                sha.update(part)
        digests.append(sha.hexdigest()[:DIGEST_CHARS])
    return digests


def _parts(column: pa.ChunkedArray) -> Parts:
    if pa.types.is_list(column.type):
        return _list_parts(column)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return _text_parts(column) if is_text else _number_parts(column)


def _list_parts(column: pa.ChunkedArray) -> Parts:
    """The lengths of the lists of structs, then of each field the values in them."""
    lists: Any = column.combine_chunks()
    lengths_N = lists.value_lengths().fill_null(_ABSENT).to_numpy()
    offsets_N = np.cumsum([0, *np.maximum(lengths_N, 0)])
    fields = [_parts(pa.chunked_array([field])) for field in lists.flatten().flatten()]

    def parts_of(span: range) -> tuple[memoryview, ...]:
        inner = range(offsets_N[span.start], offsets_N[span.stop])
        return (lengths_N[span.start : span.stop].data, *(part for parts in fields for part in parts(inner)))

    return parts_of


def _text_parts(column: pa.ChunkedArray) -> Parts:
    """The lengths of the texts, then the texts; together they tell where each one ends."""
    whole = pc.fill_null(column.cast(pa.large_string()), "").combine_chunks()
    offsets_N, content = _text_buffers(whole)
    lengths_N = np.where(column.is_null().to_numpy(), _ABSENT, np.diff(offsets_N))
    return lambda span: (lengths_N[span.start : span.stop].data, content[offsets_N[span.start] : offsets_N[span.stop]])


def _text_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, memoryview]:
    _, offsets, content = texts.buffers()
    offsets_N = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return offsets_N, memoryview(content or b"")


def _number_parts(column: pa.ChunkedArray) -> Parts:
    absent_N = column.is_null().to_numpy()
    values_N = np.ascontiguousarray(pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0).to_numpy())
    return lambda span: (absent_N[span.start : span.stop].data, values_N[span.start : span.stop].data)
