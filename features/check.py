"""Check: a whole store against its manifest and against the rules that its files keep."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.check_rows import REBUILD, Problem, check_keys, check_samples, check_view
from features.errors import ShardError
from features.files import FolderFiles, open_first
from features.manifest import MANIFEST_FILE, SAMPLES_FOLDER, view_schema
from features.reasons import Reason
from features.rev import digest_file
from features.sample import MODALITIES, SAMPLE_SCHEMA, SPLITS, with_later_fields
from features.shards import Shard, cut_shards, read_rejects, read_shard, shard_name
from features.store import Store
from features.view import StoredView

RESTORE = "delete it, then run 'dvc checkout' or, where that has no sound copy, 'dvc repro'"
_DROPPED = ("sample", "part", "nothing", *MODALITIES)


def check(store: Store) -> Iterator[Problem]:
    """Everything that is wrong with a version of a store, as it is found; nothing where all is well.

    Each file is read once, a shard of one table at a time: what is held at once does not grow with the store but for
    8 bytes a group and shard, and the keys that embed rejected. A file whose digest is wrong is not looked into.
    """
    yield from _check_folder(store)
    rejected = yield from _check_rejects(store)
    samples = _SampleChecker(store)
    num_present: dict[str, list[int | None]] = {name: [] for name in store.views}
    for shard in store.manifest.shards:
        table = yield from samples.check(shard)
        for name, view in store.views.items():
            count = yield from _check_shard(store, view, shard, table, rejected)
            num_present[name].append(count)
    yield from samples.finish()
    for view in store.views.values():
        yield from _check_fit(store, view)
    for name, counts in num_present.items():
        yield from _check_count(store.views[name], counts)


def _check_shard(
    store: Store, view: StoredView, shard: Shard, samples: pa.Table | None, rejected: set[tuple[str, str]]
) -> Generator[Problem, None, int | None]:
    """Check one shard of a view; gives how many embeddings it has, None if it cannot be read."""
    file = f"{view.name}/{view.files[shard.name]}"
    schema = view_schema(dim=view.dim, dtype=view.dtype, is_sequence=view.is_sequence)
    table = yield from _load_shard(store, file, view.digests[shard.name], schema, shard.num_rows)
    if table is None:
        return None
    yield from check_view(file, view, table, samples, rejected)
    return len(table) - table["embedding"].null_count


def _check_fit(store: Store, view: StoredView) -> Iterator[Problem]:
    """The fit of a reduced view."""
    if view.fit is not None:
        yield from _load(store, f"{view.name}/{view.fit_file}", view.fit, read_shard)


def _check_count(view: StoredView, counts: Sequence[int | None]) -> Iterator[Problem]:
    known = [count for count in counts if count is not None]
    if len(known) == len(counts) and sum(known) != view.num_present:
        found = f"view {view.name!r} has {sum(known)} embeddings, the manifest says {view.num_present}"
        yield Problem(MANIFEST_FILE, "count", found, "run 'dvc repro -f embed'")


def _check_folder(store: Store) -> Iterator[Problem]:
    """Files that the version does not list; of a past version there is no folder to look into."""
    if not isinstance(store.files, FolderFiles):
        return
    listed = store.manifest.file_names | {MANIFEST_FILE}
    for path in sorted(store.folder.rglob("*")):
        name = path.relative_to(store.folder).as_posix()
        if name not in listed and not path.is_dir():
            found = "the manifest does not list it: it is left over, or a run is making it just now"
            yield Problem(name, "unlisted", found, "run 'dvc repro embed', which removes what is left over")


def _check_rejects(store: Store) -> Generator[Problem, None, set[tuple[str, str]]]:
    """The table of rejects; gives the key and the modality of what embed could not encode."""
    name = store.manifest.rejects
    table = yield from _load(store, name, name.removeprefix("rejects-").partition(".")[0], read_rejects)
    if table is None:
        return set()
    for column, known in (("reason", list(Reason)), ("dropped", list(_DROPPED))):
        unknown = table.filter(pc.invert(pc.is_in(table[column], pa.array(known, pa.string()))))
        if len(unknown):
            first = unknown[column][0].as_py()
            yield Problem(name, "rejects", f"{len(unknown)} rows have an unknown {column}, first {first!r}", REBUILD)
    embedded = table.filter(pc.equal(table["stage"], "embed"))
    return set(zip(embedded["key"].to_pylist(), embedded["dropped"].to_pylist(), strict=True))


def _load(
    store: Store, name: str, digest: str, read: Callable[[Path], pa.Table]
) -> Generator[Problem, None, pa.Table | None]:
    """The table of a file, if that is there and has the digest (or one that begins so); else None."""

    def read_sound(path: Path) -> tuple[str, pa.Table | ShardError | None]:
        found = digest_file(path)
        try:
            return found, read(path) if found.startswith(digest) else None
        except ShardError as error:
            return found, error

    try:
        found, table = open_first(store.files, name, read_sound)
    except ShardError as error:
        what, _, cure = str(error).rpartition(": ")
        yield Problem(name, "missing", what, cure)
        return None
    if table is None:
        yield Problem(name, "digest", f"its sha256 is {found[:12]}.., the manifest says {digest[:12]}..", RESTORE)
    elif isinstance(table, ShardError):
        yield Problem(name, "arrow", f"its digest is right, but {table.__cause__}", REBUILD)
        return None
    return table


def _load_shard(
    store: Store,
    name: str,
    digest: str,
    schema: pa.Schema,
    num_rows: int,
    *,
    read: Callable[[Path], pa.Table] = read_shard,
) -> Generator[Problem, None, pa.Table | None]:
    """The table of a shard if it is what the manifest says; else None."""
    table = yield from _load(store, name, digest, read)
    if table is None:
        return None
    wrong = [str(field) for field in schema if field not in list(table.schema)]
    wrong += [f"no column {column}" for column in table.schema.names if column not in schema.names]
    if wrong:
        yield Problem(name, "schema", f"it should have {', '.join(wrong)}", REBUILD)
        return None
    nulls = [field.name for field in schema if not field.nullable and table[field.name].null_count]
    if nulls:
        yield Problem(name, "null", f"{', '.join(nulls)} may not be null and is", REBUILD)
        return None
    if len(table) != num_rows:
        yield Problem(name, "count", f"it has {len(table)} rows, the manifest says {num_rows}", REBUILD)
        return None
    return table


def _read_samples(path: Path) -> pa.Table:
    return with_later_fields(read_shard(path))


class _SampleChecker:
    """Checks the sample table shard by shard, with what holds between shards: order, boundaries and groups."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last_key: str | None = None
        shard_samples = store.manifest.steps.get("embed", {}).get("shard_samples")
        self._boundaries = _Boundaries(shard_samples) if shard_samples else None
        self._groups: list[np.ndarray] = []

    def check(self, shard: Shard) -> Generator[Problem, None, pa.Table | None]:
        """Check one shard; gives its table, None if it cannot be read."""
        name = f"{SAMPLES_FOLDER}/{shard.file}"
        table = yield from _load_shard(
            self._store, name, shard.digest, SAMPLE_SCHEMA, shard.num_rows, read=_read_samples
        )
        if table is None or not len(table):
            self._boundaries = None
            self._last_key = shard.last_key or self._last_key
            return table
        keys = [str(key) for key in table["key"].to_pylist()]
        disorder = list(check_keys(name, keys, self._last_key))
        yield from disorder
        self._last_key = keys[-1]
        if (shard.first_key, shard.last_key) != (keys[0], keys[-1]):
            found = f"its keys go from {keys[0]!r} to {keys[-1]!r}"
            said = f"the manifest says from {shard.first_key!r} to {shard.last_key!r}"
            yield Problem(name, "ends", f"{found}, {said}", REBUILD)
        if shard.name != shard_name(keys[0]):
            yield Problem(name, "name", f"its first key gives it the name {shard_name(keys[0])}", REBUILD)
        if disorder:
            self._boundaries = None
        if self._boundaries is not None:
            yield from self._boundaries.add(name, keys)
        self._groups.append(_group_codes(table)[1])
        yield from check_samples(name, table)
        return table

    def finish(self) -> Iterator[Problem]:
        """What can be told only when all shards were seen."""
        if self._boundaries is not None:
            yield from self._boundaries.finish()
        codes = np.unique(np.concatenate([np.empty(0, np.uint64), *self._groups]))
        hashes = codes >> np.uint64(2)
        straddling = hashes[1:][hashes[1:] == hashes[:-1]]
        if len(straddling):
            yield Problem(
                SAMPLES_FOLDER, "group", self._describe(straddling), "give each group one split and run again"
            )

    def _describe(self, straddling: np.ndarray) -> str:
        """Groups that are in two splits, the first with a sample of each; the shards are read again for their names."""
        examples: dict[str, str] = {}
        wanted = straddling[:1]
        for index in range(len(self._store.reader.shards)):
            try:
                table = self._store.reader.open_samples(index)
            except ShardError:
                continue
            pairs, codes = _group_codes(table)
            for (group, split), code in zip(pairs, codes, strict=True):
                if code >> np.uint64(2) == wanted[0]:
                    examples.setdefault(split, group)
        splits = " and ".join(sorted(examples))
        return f"{len(straddling)} groups are in more than one split, as {next(iter(examples.values()))!r} in {splits}"


def _group_codes(samples: pa.Table) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The groups and splits of a shard, and uint64 of each: 62 bits of the group's hash, then 2 for the split."""
    found = set(zip(samples["group"].to_pylist(), samples["split"].to_pylist(), strict=True))
    pairs = [(group, split) for group, split in found if split in SPLITS]
    codes = [_hash62(group) << 2 | SPLITS.index(split) for group, split in pairs]
    return pairs, np.array(codes, np.uint64)


def _hash62(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 2


class _Boundaries:
    """Compares the shards with those that their keys alone give, holding the keys of some shards at a time."""

    def __init__(self, target_rows: int) -> None:
        self._target_rows = target_rows
        self._keys: list[str] = []
        self._shards: deque[tuple[str, int]] = deque()
        self._lost = False

    def add(self, where: str, keys: Sequence[str]) -> Iterator[Problem]:
        """The next shard; settled once enough keys have come after it."""
        if not self._lost:
            self._keys += keys
            self._shards.append((where, len(keys)))
            if len(self._keys) >= 32 * self._target_rows:
                yield from self._settle(is_end=False)

    def finish(self) -> Iterator[Problem]:
        """Settle what is left: no key comes any more."""
        yield from self._settle(is_end=True)

    def _settle(self, *, is_end: bool) -> Iterator[Problem]:
        settled = 0
        for span in cut_shards(self._keys, self._target_rows):
            # An end is chosen among the keys up to the greatest size, so it is sure when these are all known.
            if self._lost or not (is_end or span.start + 4 * self._target_rows <= len(self._keys)):
                break
            where, num_rows = self._shards.popleft()
            if num_rows != len(span):
                found = f"it has {num_rows} samples, where its keys make a shard of {len(span)}"
                yield Problem(where, "boundary", f"{found}; shards after it are not compared", REBUILD)
                self._lost = True
            settled = span.stop
        self._keys = [] if self._lost else self._keys[settled:]
