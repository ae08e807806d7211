"""What of the source is new, changed, renamed or gone since it was last ingested."""

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.ingest import RAW_MANIFEST, DigestFiles, list_recordings, read_raw
from pipelines.params import IngestParams
from pipelines.raw import FILE_COLUMNS, RAW_SCHEMA, source_digest, source_uris

Recording = dict[str, Any]
"""A row of RAW_SCHEMA."""


@dataclass(frozen=True)
class Renamed:
    """A recording whose content was known under another key, or whose files had other names or places."""

    key_before: str
    key: str
    uris_before: str
    uris: str


@dataclass(frozen=True)
class SourceChanges:
    """Keys of recordings. changed: another content, or other facts about it (label, group, split, intervals, meta)."""

    new: list[str]
    changed: list[str]
    renamed: list[Renamed]
    removed: list[str]
    num_unchanged: int
    num_rejected: int

    @property
    def has_edits(self) -> bool:
        """Whether known recordings have another content or other files."""
        return bool(self.changed or self.renamed)

    @property
    def is_unchanged(self) -> bool:
        return not (self.new or self.changed or self.renamed or self.removed)


def read_source(params: IngestParams) -> tuple[list[Recording], int]:
    """The recordings as ingest would list and digest them now, and how many samples it would reject; writes nothing.

    Raises SourceError as ingest does.
    """
    rows, rejects, _ = list_recordings(params)
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(DigestFiles(str(Path.cwd())), rows))
    whole = [row for made, _ in outcomes for row in made]
    num_rejected = len(rejects) + sum(len(rejected) for _, rejected in outcomes)
    return pa.Table.from_pylist(whole, schema=RAW_SCHEMA).to_pylist(), num_rejected


def source_changes(rows: list[Recording], num_rejected: int, ingested: Path) -> SourceChanges:
    """What the recordings are beside those in ingest's folder, where there may be none."""
    before = {row["key"]: row for row in _ingested(ingested)}
    after = {row["key"]: row for row in rows}
    removed = {key: row for key, row in before.items() if key not in after}
    renamed = _find_renamed({key: row for key, row in after.items() if key not in before}, removed)
    common = [key for key in after if key in before]
    changed = {key for key in common if _facts(after[key]) != _facts(before[key])}
    same = [key for key in common if key not in changed]
    moved = [_renamed(before[key], after[key]) for key in same]
    moved = [recording for recording in moved if recording.uris != recording.uris_before]
    return SourceChanges(
        new=sorted(after.keys() - before.keys() - {recording.key for recording in renamed}),
        changed=sorted(changed),
        renamed=sorted([*renamed, *moved], key=lambda recording: recording.key),
        removed=sorted(removed),
        num_unchanged=len(common) - len(changed) - len(moved),
        num_rejected=num_rejected,
    )


def _ingested(folder: Path) -> list[Recording]:
    """What ingest listed last; nothing if that was never, or by a Plait that knew other things of a recording."""
    if not (folder / RAW_MANIFEST).is_file():
        return []
    raw = read_raw(folder)
    return list(raw.to_pylist()) if raw.schema.equals(RAW_SCHEMA) else []


def _find_renamed(new: Mapping[str, Recording], removed: dict[str, Recording]) -> list[Renamed]:
    """New recordings whose content a removed one had; what is found is no longer among the removed ones."""
    keys = defaultdict(list)
    for key, row in removed.items():
        keys[source_digest(row)].append(key)
    renamed = []
    for row in new.values():
        if same := keys[source_digest(row)]:
            renamed.append(_renamed(removed.pop(same.pop(0)), row))
    return renamed


def _renamed(before: Recording, after: Recording) -> Renamed:
    return Renamed(before["key"], after["key"], source_uris(before), source_uris(after))


def _facts(row: Recording) -> Recording:
    """All that is known of a recording but where its files lie."""
    return {**{name: row[name] for name in row if name not in FILE_COLUMNS}, "content": source_digest(row)}
