"""Exports: samples and their views in the formats of other tools, each written by that tool's own library."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import StoreError, nearest
from features.exports.feast_repository import write_feast
from features.exports.selection import Selection
from features.exports.writers import write_datasets, write_lance, write_parquet

if TYPE_CHECKING:
    from features.store import Store

_TIMELESS = datetime(1970, 1, 1, tzinfo=UTC)

_Writer = Callable[[Selection, Path], None]
_WRITERS: dict[str, _Writer] = {
    "parquet": write_parquet,
    "lance": write_lance,
    "datasets": write_datasets,
}
FORMATS = (*_WRITERS, "feast")
_PACKAGES = {"lance": "pylance", "datasets": "datasets"}  # imported name -> what pip calls it


def export(
    store: "Store",
    format: str,  # noqa: A002  # what users call it
    path: str | Path,
    *,
    views: Iterable[str] | None = None,
    split: str | None = None,
    where: str | None = None,
    time: datetime | None = None,
) -> int:
    """Write the chosen samples with a column a view to a new file or folder, and return how many they are.

    It appears under its name only when it is complete; memory does not grow with the store. views: all if None;
    split, where: as in Store.table(). time: for Feast, since when the values hold. They depend on the recording alone,
    so by default a join at any time finds them; give the time of publishing where it may see only what was known.
    Raises StoreError if the path exists, the format is unknown, its package is not installed or no sample is chosen.
    """
    target = Path(path)
    if format not in FORMATS:
        raise StoreError(f"format {format!r} is none of {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    if format in _PACKAGES and importlib.util.find_spec(format) is None:
        raise StoreError(
            f"an export to {format} needs the package {_PACKAGES[format]!r}, which is not installed: "
            "run pip install -e '.[export]'"
        )
    if time is not None and format != "feast":
        raise StoreError(f"a time is of format feast alone; {format!r} keeps none: leave it away")
    if os.path.lexists(target):
        raise StoreError(f"{target} exists, and an export replaces nothing: remove it or name another path")
    selection = Selection(store, list(store.views) if views is None else views, split=split, where=where)
    if not len(selection):
        raise StoreError(f"{store.folder} has no sample to export (split: {split}, where: {where}): choose otherwise")
    with _appearing(target) as temporary:
        if format == "feast":
            write_feast(selection, temporary, time=time or _TIMELESS)
        else:
            _WRITERS[format](selection, temporary)
    return len(selection)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary path beside the given one, for a file or a folder; renamed when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
