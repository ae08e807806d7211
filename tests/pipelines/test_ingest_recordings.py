import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ConfigError, SourceError
from pipelines.ingest import (
    assign_splits,
    gather_recordings,
    split_of,
)
from pipelines.params import SplitParams
from pipelines.raw import RAW_SCHEMA, RawSample, file_ref

SPLIT = SplitParams(val=0.15, test=0.15, seed=0)


def _segment(key: str, start_s: float, uri: str = "a.wav", **fields: Any) -> RawSample:
    files = {"audio": file_ref(uri), **fields.pop("files", {})}
    recording = uri.rpartition(".")[0]
    return RawSample(key, f"row {key}", recording, start_s=start_s, end_s=start_s + 1, files=files, **fields)


def test_gather_makes_one_recording_of_the_rows_that_cut_it() -> None:
    segments = [_segment("b", 2.0, label="yes"), _segment("a", 0.5, text="hi", meta={"take": 1}), _segment("c", 2.0)]
    (row,) = gather_recordings(segments)

    assert (row["key"], row["group"], row["text"], row["label"]) == ("a", "a", None, None)
    assert [(span["key"], span["start_s"], span["end_s"]) for span in row["intervals"]] == [
        ("a", 0.5, 1.5),
        ("b", 2.0, 3.0),
        ("c", 2.0, 3.0),
    ]
    assert row["intervals"][0] == {
        "key": "a",
        "start_s": 0.5,
        "end_s": 1.5,
        "text": "hi",
        "label": None,
        "meta": '{"take": 1}',
    }


def test_gather_names_recordings_by_their_path() -> None:
    rows = gather_recordings([_segment("1", 0, "x/rec.wav"), _segment("2", 0, "y/rec.wav")])

    assert [row["key"] for row in rows] == ["x/rec", "y/rec"]


def test_gather_tells_recordings_of_one_name_apart_and_keeps_their_group() -> None:
    samples = [
        _segment("1", 0, files={"image": file_ref("1.png")}),
        _segment("2", 1, files={"image": file_ref("2.png")}),
        RawSample("a", "row 3", text="of the name of the recording"),
    ]
    rows = gather_recordings(samples)
    names = {row["key"]: row["group"] for row in rows}

    assert len(names) == 3
    assert names.pop("a") is None
    assert all(name.startswith("a@") for name in names)
    assert set(names.values()) == {"a"}
    assert gather_recordings(samples[::-1]) == rows


def test_gather_keeps_samples_that_have_no_timeline_to_cut() -> None:
    text = RawSample("a", "row 1", text="hi", label="yes", start_s=1.0, end_s=2.0)
    image = RawSample("b", "row 2", label="no", start_s=1.0, end_s=2.0, files={"image": file_ref("rec.png")})
    rows = gather_recordings([image, text])

    assert [(row["key"], row["label"], row["intervals"][0]["end_s"]) for row in rows] == [
        ("a", "yes", 2.0),
        ("b", "no", 2.0),
    ]


@pytest.mark.parametrize("field", ["group", "split"])
def test_gather_refuses_segments_of_one_recording_that_differ(field: str) -> None:
    segments = [_segment("1", 0, **{field: "test"}), _segment("2", 1, **{field: "train"})]

    with pytest.raises(
        SourceError, match=f"row 1 and others cut one recording, but give it {field} 'test' and 'train'"
    ):
        gather_recordings(segments)


def test_gather_keeps_meta_of_any_type_as_json() -> None:
    values = {
        "bytes": b"\xff",
        "nan": [1.5, float("nan"), float("inf")],
        "date": Path("2024"),
        "nested": {"b": True, "a": None},
    }
    (row,) = gather_recordings([RawSample("a", "row 1", text="x", meta=values)])

    assert json.loads(row["meta"], parse_constant=pytest.fail) == {
        "bytes": "/w==",
        "nan": [1.5, None, "inf"],
        "date": "2024",
        "nested": {"a": None, "b": True},
    }


def test_gather_writes_halves_of_characters_as_question_marks() -> None:
    (row,) = gather_recordings([RawSample("a", "row 1", text="x\ud83d", label="\udc00", meta={"n": "\ud800"})])

    assert (row["text"], row["label"], row["meta"]) == ("x?", "?", '{"n": "?"}')
    pa.Table.from_pylist([{**row, "group": "g", "split": "train"}], schema=RAW_SCHEMA)


def _rows(groups: list[str]) -> list[dict[str, Any]]:
    return [{"key": f"{number}", "group": group, "split": None} for number, group in enumerate(groups)]


@given(st.lists(st.text(max_size=5), max_size=20), st.lists(st.text(max_size=5), max_size=20), st.integers(0, 5))
def test_splits_are_not_reassigned_by_growth(old: list[str], new: list[str], seed: int) -> None:
    params = SplitParams(val=0.3, test=0.3, seed=seed)
    before = [row["split"] for row in assign_splits(_rows(old), params)]
    after = [row["split"] for row in assign_splits(_rows([*old, *new]), params)]

    assert after[: len(before)] == before


@given(st.lists(st.text(min_size=1, max_size=2), max_size=30))
def test_splits_never_straddle_a_group(groups: list[str]) -> None:
    rows = assign_splits(_rows(groups), SplitParams(val=0.3, test=0.3, seed=1))

    assert len({(row["group"], row["split"]) for row in rows}) == len(set(groups))


def test_splits_come_near_their_shares() -> None:
    counts = Counter(split_of(f"speaker{number}", SPLIT) for number in range(4_000))

    assert 540 < counts["test"] < 660
    assert 540 < counts["val"] < 660


# A group that changed its split would have been trained on and be tested on: these values may not change.
def test_splits_are_pinned() -> None:
    assert [split_of(f"rec{number}", SPLIT)[:2] for number in range(12)] == [
        "va",
        "tr",
        "te",
        "tr",
        "va",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
    ]


def test_splits_grow_from_val_into_train_and_never_from_test() -> None:
    groups = [f"rec{number}" for number in range(500)]
    small = {group: split_of(group, SPLIT) for group in groups}
    large = {group: split_of(group, SplitParams(val=0.4, test=0.15, seed=0)) for group in groups}

    assert all(large[group] == split for group, split in small.items() if split != "train")


def test_a_split_that_is_given_counts_for_its_whole_group() -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "group": "g", "split": None},
        {"key": "b", "group": "g", "split": "val"},
        {"key": "c", "group": None, "split": "test"},
    ]

    assert [(row["group"], row["split"]) for row in assign_splits(rows, SPLIT)] == [
        ("g", "val"),
        ("g", "val"),
        ("c", "test"),
    ]


def test_shares_that_leave_nothing_for_train_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.split: val 0\.5 and test 0\.5 leave nothing for train"):
        assign_splits([], SplitParams(val=0.5, test=0.5, seed=0))
