"""The rules that the rows of one shard keep: pure functions from tables to problems."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.rev import DIGEST_CHARS, feature_key
from features.sample import MODALITIES, SPLITS
from features.view import StoredView

REBUILD = "delete it and run 'dvc repro embed'"
_WORDS_FOUND = "have words that end before they start, do not rise, or lie outside of the sample's interval"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: where (a file in the store), which rule it breaks, what was found, and what to do."""

    where: str
    rule: str
    found: str
    cure: str

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.rule}: {self.found}; {self.cure}".split())


def check_keys(where: str, keys: Sequence[str], last_key: str | None) -> Iterator[Problem]:
    """Keys rise strictly, after last_key, which ends the shard before."""
    before = [] if last_key is None else [last_key]
    for row, (key, after) in enumerate(pairwise([*before, *keys]), start=1 - len(before)):
        if key >= after:
            found = f"the key of row {row}, {after!r}, comes after {key!r}; keys rise strictly over all shards"
            yield Problem(where, "order", found, REBUILD)
            return


def check_samples(where: str, samples: pa.Table) -> Iterator[Problem]:
    """Splits, variants, intervals on the recording's timeline, and the flags of the modalities."""
    unknown_N = ~np.isin(_numpy(samples["split"]), SPLITS)
    flags_MN = np.stack([_numpy(samples[f"has_{modality}"]) for modality in MODALITIES])
    start_N, end_N = (_numpy(samples[name].cast(pa.float64())) for name in ("start_s", "end_s"))
    timeless_N = _numpy(samples["start_s"].is_null()) & _numpy(samples["end_s"].is_null())
    has_text_N = _numpy(samples["text"].is_valid())
    variant_N = _numpy(samples["variant"])
    in_train_N = _numpy(pc.equal(samples["split"], "train"))
    rows = _Rows(where, samples["key"])
    yield from rows.problem("split", unknown_N, f"are in none of the splits {', '.join(SPLITS)}")
    astray_N = (variant_N < 0) | ((variant_N > 0) & ~in_train_N)
    yield from rows.problem("variant", astray_N, "are augmented copies outside of train")
    sound_N: np.ndarray = np.isfinite(start_N) & np.isfinite(end_N) & (start_N < end_N)
    yield from rows.problem("interval", ~(timeless_N | sound_N), "have no start_s before their end_s")
    yield from rows.problem("words", _unsound_words(samples, start_N, end_N), _WORDS_FOUND)
    yield from rows.problem("modality", ~np.logical_or.reduce(flags_MN), "have no modality at all")
    yield from rows.problem("modality", flags_MN[0] ^ has_text_N, "have a text where has_text is false, or none")


def _unsound_words(samples: pa.Table, start_N: np.ndarray, end_N: np.ndarray) -> np.ndarray:
    """bool [row]; a sample without a timeline, whose start and end are NaN, has no interval to exceed."""
    words: Any = samples["words"].combine_chunks()
    row_W = np.repeat(np.arange(len(words)), _numpy(words.value_lengths().fill_null(0)))
    spoken = words.flatten()
    start_W, end_W = (_numpy(spoken.field(name)) for name in ("start_s", "end_s"))
    exceeds_W = (start_W < start_N[row_W]) | (end_W > end_N[row_W])
    falls_W = np.zeros(len(row_W), dtype=bool)
    falls_W[1:] = (row_W[1:] == row_W[:-1]) & (start_W[1:] < start_W[:-1])
    return np.isin(np.arange(len(words)), row_W[~(start_W <= end_W) | exceeds_W | falls_W])


def check_view(
    where: str, view: StoredView, table: pa.Table, samples: pa.Table | None, rejected: set[tuple[str, str]]
) -> Iterator[Problem]:
    """One shard of a view: its keys are those of the samples, and each embedding is there, absent or lost as it should.

    samples: the rows beside it, None if they cannot be read; rejected: the key and modality of what embed could not
    encode.
    """
    rows = _Rows(where, table["key"])
    present_N = _numpy(table["embedding"].is_valid())
    broken_N = ~_numpy(pc.match_substring_regex(table["feature_key"], f"^[0-9a-f]{{{DIGEST_CHARS}}}$"))
    yield from rows.problem("feature_key", broken_N, f"have no feature key of {DIGEST_CHARS} hexadecimal digits")
    column = table["embedding"].combine_chunks()
    if view.is_sequence:
        yield from _check_sequences(rows, table, present_N, view.dim)
    else:
        yield from _check_vectors(rows, column, present_N)
    if view.deterministic:
        yield from _check_equal_inputs(rows, table, present_N)
    if samples is not None:
        if not table["key"].equals(samples["key"]):
            found = "its keys are not those of the samples in the same rows, so they cannot be joined"
            yield Problem(where, "join", found, REBUILD)
        else:
            yield from _check_presence(rows, view, table, present_N, samples, rejected)


def _check_vectors(rows: "_Rows", column: Any, present_N: np.ndarray) -> Iterator[Problem]:
    values_ND = column.values.to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    finite_N = np.isfinite(values_ND).all(axis=1)
    yield from rows.problem("finite", present_N & ~finite_N, "have an embedding that is not finite")
    unset_N = np.zeros(len(present_N), dtype=bool)
    unset_N[~present_N] = ~np.isnan(values_ND[~present_N]).all(axis=1)
    yield from rows.problem("absence", unset_N, "are absent (null), but the vector under the null is not NaN")


def _check_sequences(rows: "_Rows", table: pa.Table, present_N: np.ndarray, dim: int) -> Iterator[Problem]:
    lists = {name: table[name].combine_chunks() for name in ("embedding", "start_s", "end_s")}
    lengths = {name: _numpy(column.value_lengths().fill_null(-1)) for name, column in lists.items()}
    length_N = lengths["embedding"]
    differ_N = (length_N != lengths["start_s"]) | (length_N != lengths["end_s"])
    yield from rows.problem("interval", differ_N, "have other numbers of vectors, starts and ends")
    yield from rows.problem("absence", length_N == 0, "are present, but have no vectors")
    row_V = np.repeat(np.arange(len(present_N)), np.maximum(length_N, 0))
    values_VD = _numpy(lists["embedding"].flatten().flatten()).reshape(-1, dim)
    unsound_N = rows.having(row_V[~np.isfinite(values_VD).all(axis=1)])
    yield from rows.problem("finite", unsound_N, "have an embedding that is not finite")
    if not differ_N.any():
        start_V, end_V = (_numpy(lists[name].flatten()) for name in ("start_s", "end_s"))
        unsound_N = rows.having(_unsound_intervals(row_V, start_V, end_V))
        yield from rows.problem(
            "interval", unsound_N, "have intervals that do not end after they start, or start before the one before"
        )


def _unsound_intervals(row_V: np.ndarray, start_V: np.ndarray, end_V: np.ndarray) -> np.ndarray:
    """The rows of the intervals that are wrong. All vectors of a sample without a clock have NaN in both.

    Two vectors may have one interval, as the tokens of a word have.
    """
    clockless_V = np.isnan(start_V) & np.isnan(end_V)
    sound_V = np.isfinite(start_V) & np.isfinite(end_V) & (start_V < end_V)
    follows_V = np.zeros(len(row_V), dtype=bool)
    follows_V[1:] = row_V[1:] == row_V[:-1]
    rises_V = np.ones(len(row_V), dtype=bool)
    rises_V[1:] = (start_V[1:] >= start_V[:-1]) | (clockless_V[1:] & clockless_V[:-1])
    return row_V[~(clockless_V | sound_V) | (follows_V & ~rises_V)]


def _check_equal_inputs(rows: "_Rows", table: pa.Table, present_N: np.ndarray) -> Iterator[Problem]:
    """Rows of one feature key hold one embedding. (Within a shard: over all of them it would need them all at once.)"""
    feature_keys = table["feature_key"].to_pylist()
    if len(set(feature_keys)) == len(feature_keys):
        return
    first: dict[str, int] = {}
    differ_N = np.zeros(len(present_N), dtype=bool)
    embedding = table["embedding"].combine_chunks()
    for row, key in enumerate(feature_keys):
        if present_N[row] and first.setdefault(key, row) != row:
            differ_N[row] = not embedding.slice(row, 1).equals(embedding.slice(first[key], 1))
    yield from rows.problem("feature_key", differ_N, "have another embedding than a row before of the same feature key")


def _check_presence(
    rows: "_Rows",
    view: StoredView,
    table: pa.Table,
    present_N: np.ndarray,
    samples: pa.Table,
    rejected: set[tuple[str, str]],
) -> Iterator[Problem]:
    has_N = _numpy(samples[f"has_{view.input}"])
    yield from rows.problem("modality", present_N & ~has_N, f"have an embedding, but the samples have no {view.input}")
    keyless_N = _numpy(pc.equal(table["feature_key"], feature_key(view.rev, None)))
    found = f"have the feature key of an absent {view.input} where the sample has it, or the reverse"
    yield from rows.problem("feature_key", keyless_N == has_N, found)
    lost_N = has_N & ~present_N
    for row in np.flatnonzero(lost_N):
        lost_N[row] = (str(table["key"][row]), view.input) not in rejected
    found = f"have no embedding though the samples have {view.input}, and no reject of embed says why"
    yield from rows.problem("reject", lost_N, found)


@dataclass(frozen=True)
class _Rows:
    """Makes one problem of all the rows of a file that break a rule, and names the first."""

    where: str
    keys: pa.ChunkedArray

    def problem(self, rule: str, bad_N: np.ndarray, found: str) -> Iterator[Problem]:
        if bad_N.any():
            row = int(np.argmax(bad_N))
            which = f"{bad_N.sum()} of {len(bad_N)} rows {found}; the first is row {row}, {self.keys[row].as_py()!r}"
            yield Problem(self.where, rule, which, REBUILD)

    def having(self, row_V: np.ndarray) -> np.ndarray:
        """bool [row], which rows are among row_V."""
        return np.isin(np.arange(len(self.keys)), row_V)


def _numpy(column: Any) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))
