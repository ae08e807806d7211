"""What a stage keeps and says of its rejects."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.errors import RejectRatioError
from features.manifest import REJECTS_FILE
from pipelines.job import Reject
from pipelines.stage import check_ratio, load_rejects, say_outcome, write_rejects


def _reject(key: str, reason: str = "empty", dropped: str = "sample") -> Reject:
    return Reject(key, "double", reason, dropped, f"{key} is {reason}")


def test_check_ratio_lists_the_reasons() -> None:
    rejects = [_reject("a", "silent"), _reject("b", "silent"), _reject("c", "truncated")]

    check_ratio("clean", rejects, 15, 0.2)  # exactly the ratio is allowed
    with pytest.raises(RejectRatioError) as raised:
        check_ratio("clean", rejects, 14, 0.2)
    assert str(raised.value) == (
        "clean rejected 3 of 14 (21%), max_reject_ratio is 0.2; reasons: silent 2, truncated 1; first: a: a is silent. "
        "Mend the source or raise clean.max_reject_ratio"
    )


def test_check_ratio_counts_samples_that_lost_something_once() -> None:
    lost_twice = [_reject("a", "silent", "audio"), _reject("a", "undecodable", "image")]
    shortened = [_reject(key, "clipped", "part") for key in "bcdef"]

    check_ratio("clean", [*lost_twice, *shortened], 10, 0.1)
    with pytest.raises(RejectRatioError, match="rejected 1 of 10"):
        check_ratio("clean", lost_twice, 10, 0.0)


def test_check_ratio_says_the_warnings_that_may_explain_it() -> None:
    odd = [_reject("a", "wrong_unit", "nothing"), _reject("b", "wrong_unit", "nothing")]
    said = r"is silent\. Warnings: wrong_unit, as a: a is wrong_unit\. Mend the source"
    with pytest.raises(RejectRatioError, match=said):
        check_ratio("align", [_reject("a", "silent"), *odd], 2, 0.2)


def test_check_ratio_of_nothing_passes() -> None:
    check_ratio("clean", [], 0, 0.0)


def test_write_rejects_has_equal_bytes_in_any_order(tmp_path: Path) -> None:
    rejects = [_reject("b"), _reject("a", "silent"), _reject("a", "empty"), _reject("a", "empty", "part")]
    write_rejects(tmp_path / "one", rejects)
    write_rejects(tmp_path / "two", rejects[::-1])

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [(row["key"], row["reason"]) for row in pq.read_table(tmp_path / "one").to_pylist()] == [
        ("a", "empty"),
        ("a", "empty"),
        ("a", "silent"),
        ("b", "empty"),
    ]


def test_write_rejects_holds_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write_rejects(tmp_path / REJECTS_FILE, [_reject(name)])

    assert load_rejects(tmp_path)[0].key == r"caf\udce9.jpg"


def test_say_outcome_counts_by_reason_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    say_outcome("clean", num_in=5, num_out=3, rejects=[_reject("a", "silent"), _reject("b", "silent")])

    assert capsys.readouterr().err == (
        "clean: 5 in, 3 out, 2 rejects\n  silent (sample dropped) 2, as a: a is silent\n"
    )


def test_say_outcome_counts_warnings_apart(capsys: pytest.CaptureFixture[str]) -> None:
    say_outcome("align", num_in=5, num_out=5, rejects=[_reject("a", "overlap", "nothing")])

    assert capsys.readouterr().err == (
        "align: 5 in, 5 out, no rejects, 1 warnings\n  overlap (nothing dropped) 1, as a: a is overlap\n"
    )
