"""From ingest.source to a list of samples: the kind of source is told by its name and content."""

from pathlib import PurePosixPath

import fsspec

from features.errors import ConfigError, SourceError
from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import RawSample
from pipelines.sources.folder import list_folder
from pipelines.sources.table import SUFFIXES, list_table
from pipelines.sources.tars import list_tars

_MANIFEST_NAMES = tuple(f"manifest{suffix}" for suffix in SUFFIXES)


def list_source(source: str, columns: dict[str, str]) -> tuple[list[RawSample], list[Reject]]:
    """All samples that the source names, in no particular order, and what of it is of no use.

    source: a manifest (.csv, .jsonl, .parquet), a folder with a file of the name manifest and such a suffix, a
    WebDataset tar or a folder of them, or a folder of media; a path or any URL that fsspec opens.
    Raises SourceError if it cannot be read or holds nothing, ConfigError if the columns of no manifest are named.
    """
    try:
        fs, root = fsspec.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise SourceError(f"ingest.source {source!r} cannot be opened ({error}): correct it in params.yaml") from error
    try:
        if not fs.exists(root):
            raise SourceError(f"ingest.source is {source!r}, which does not exist: correct it in params.yaml")
        samples, rejects = _list(source, fs, root, columns)
    except OSError as error:
        raise SourceError(f"ingest.source {source!r} cannot be read ({error}): check its permissions") from error
    if not samples and not rejects:
        raise SourceError(f"ingest.source {source!r} holds no samples: point it at recordings or at a manifest")
    return samples, rejects


def _list(
    source: str, fs: fsspec.AbstractFileSystem, root: str, columns: dict[str, str]
) -> tuple[list[RawSample], list[Reject]]:
    if fs.isdir(root):
        names = {PurePosixPath(path).name: path for path in sorted(fs.ls(root, detail=False))}
        manifest = next((name for name in _MANIFEST_NAMES if name in names), None)
        if manifest:
            return list_table(f"{source.rstrip('/')}/{manifest}", fs.cat_file(names[manifest]), source, columns)
        _check_no_columns(source, columns)
        tars = [name for name in names if name.endswith(".tar")]
        if tars:
            samples, rejects = list_tars(
                [f"{source.rstrip('/')}/{name}" for name in tars], fs, [names[name] for name in tars]
            )
            return samples, rejects + [_beside_tars(name) for name in names if name not in tars and name[0] != "."]
        return list_folder(source, fs, root)
    suffix = PurePosixPath(root).suffix.lower()
    if suffix == ".tar":
        _check_no_columns(source, columns)
        return list_tars([source], fs, [root])
    if suffix in SUFFIXES:
        return list_table(source, fs.cat_file(root), source.rpartition("/")[0] or ".", columns)
    raise SourceError(
        f"ingest.source {source!r} is no folder, no .tar and no {' '.join(SUFFIXES)} table: point it at one of these"
    )


def _check_no_columns(source: str, columns: dict[str, str]) -> None:
    if columns:
        raise ConfigError(
            f"ingest.columns names {', '.join(columns)}, and ingest.source {source!r} has no manifest with columns: "
            "make it {}, or point ingest.source at a manifest"
        )


def _beside_tars(name: str) -> Reject:
    text = f"{name}: a folder that holds tars is read from these alone: move it, or point ingest.source at it"
    return Reject(name, "ingest", Reason.UNKNOWN_FILE, "part", text)
