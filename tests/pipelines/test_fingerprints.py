from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fingerprints import fingerprint_spans

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("other", pa.string()),
        ("number", pa.float64()),
        ("flag", pa.bool_()),
    ]
)
WORDS = pa.schema([("words", pa.list_(pa.struct([("start_s", pa.float64()), ("text", pa.string())])))])
WORD = st.fixed_dictionaries({"start_s": st.none() | st.sampled_from([0.5, 1.5]), "text": st.none() | st.text("ab")})
WORD_ROWS = st.lists(st.fixed_dictionaries({"words": st.none() | st.lists(WORD, max_size=3)}), max_size=4)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text("aé", max_size=3),
            "other": st.none() | st.text("aé", max_size=3),
            "number": st.none() | st.floats(-2, 2, width=16),
            "flag": st.none() | st.booleans(),
        }
    ),
    max_size=5,
)


def prints(rows: list[dict[str, Any]], *spans: range, setting: Any = 0) -> list[str]:
    return fingerprint_spans(setting, pa.Table.from_pylist(rows, schema=SCHEMA), spans)


def fingerprint(rows: list[dict[str, Any]]) -> str:
    (found,) = prints(rows, range(len(rows)))
    return found


@settings(deadline=None)  # the first call loads Arrow's functions
@given(ROWS, ROWS)
def test_fingerprints_are_equal_for_equal_rows_alone(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    texts = [[repr([row[name] for name in SCHEMA.names]) for row in rows] for rows in (left, right)]
    assert (fingerprint(left) == fingerprint(right)) == (texts[0] == texts[1])


@settings(deadline=None)
@given(ROWS, ROWS, ROWS)
def test_fingerprints_do_not_depend_on_what_lies_around(
    before: list[dict[str, Any]], rows: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    span = range(len(before), len(before) + len(rows))

    assert prints([*before, *rows, *after], range(len(before)), span)[1] == fingerprint(rows)


@settings(deadline=None)
@given(WORD_ROWS, WORD_ROWS, WORD_ROWS)
def test_fingerprints_of_lists_are_those_of_their_values(
    before: list[dict[str, Any]], left: list[dict[str, Any]], right: list[dict[str, Any]]
) -> None:
    alone, other, beside = (
        pa.Table.from_pylist(rows, schema=WORDS) for rows in (left, right, [*before, *left, *right])
    )
    (found,), (of_other,) = (fingerprint_spans(0, table, [range(len(table))]) for table in (alone, other))
    span = range(len(before), len(before) + len(left))
    assert fingerprint_spans(0, beside, [span]) == fingerprint_spans(0, beside.slice(span.start), [range(len(left))])
    assert fingerprint_spans(0, beside, [span]) == [found]
    assert (found == of_other) == (left == right)


def test_fingerprints_do_not_depend_on_the_memory_behind_a_column() -> None:
    """Whether it is a slice, lies in pieces, or has values under its nulls."""
    rows = [{"text": "one", "number": 1.0}, {"text": None, "number": None}, {"text": "three", "number": 3.0}]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    sliced = pa.concat_tables([table, table]).slice(3, 3)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 2)])
    under = pa.array([1.0, 9.0, 3.0], mask=pa.array([False, True, False]).to_numpy(zero_copy_only=False))
    dirty = table.set_column(2, SCHEMA.field("number"), under)

    assert {fingerprint_spans(0, found, [range(3)])[0] for found in (table, sliced, pieces, dirty)} == {
        fingerprint(table.to_pylist())
    }


def test_fingerprints_depend_on_settings_and_types() -> None:
    rows = [{"text": "1"}]
    types = pa.table({"a": pa.array([1], pa.int32())}), pa.table({"a": pa.array([1], pa.int64())})
    found = {
        fingerprint(rows),
        *prints(rows, range(1), setting=1),
        *(fingerprint_spans(0, table, [range(1)])[0] for table in types),
    }

    assert len(found) == 4


# Names of files hold these: were they to change, all shards of all stores would be written again.
def test_fingerprints_are_pinned() -> None:
    rows = [{"text": "é", "other": None, "number": 0.5, "flag": True}, {"text": "", "number": None, "flag": None}]

    assert fingerprint(rows) == "9c73e274f800f7676e212ccc550f0b93"
