from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.reasons import Reason
from features.sample import media_row
from pipelines.media.diagnosis import diagnose
from pipelines.media.spans import Notice, Span, span

MINUTE = {"audio": (0.0, 60.0), "video": (0.0, 59.5)}


def cues(*times: tuple[float, float], scale: float = 1) -> list[Span]:
    return [span(start * scale, end * scale, text="x") for start, end in times]


def found(tracks: dict[str, tuple[float, float]] = MINUTE, **spans: Any) -> list[Notice]:
    return diagnose(media_row(key="a", **spans), tracks)


SPOKEN = tuple((start, start + 3.0) for start in range(2, 58, 5))


def test_diagnose_says_nothing_of_a_recording_whose_cues_fit() -> None:
    assert found(cues=cues(*SPOKEN), labels=[span(0, 60, label="y")]) == []
    assert found() == found({}) == []
    assert found(cues=cues(*SPOKEN[:-1], (58, 63))) == []  # the cut shortens it and says so


@pytest.mark.parametrize(
    ("scale", "unit"),
    [
        (1000, "as milliseconds it"),
        (1e6, "as microseconds it"),
        (1e7, "as ticks of 100 ns it"),
        (90_000, "ticks of 90 kHz"),
        (16_000, "samples (16000 or 22050 or "),
        (44_100, "samples (44100 or 48000 a second)"),
        (25, "as frames (25 or 29.97 or 30 or 50 a second) it would"),
    ],
)
@pytest.mark.parametrize("kind", ["cues", "words", "labels", "intervals"])
def test_diagnose_names_the_unit_in_which_times_would_fit(scale: float, unit: str, kind: str) -> None:
    (notice,) = found(**{kind: cues(*SPOKEN, scale=scale)})
    assert (notice.reason, notice.dropped) == (Reason.WRONG_UNIT, "nothing")
    assert f"of 12 {kind} begin beyond the recording's end at 60.0 s, the last ends at {60 * scale:.0f}" in notice.text
    assert unit in notice.text


@pytest.mark.parametrize(("per_s", "unit"), [(60, "minutes"), (3600, "hours"), (86_400, "days")])
def test_diagnose_names_a_unit_longer_than_a_second(per_s: float, unit: str) -> None:
    (notice,) = found(cues=cues(*SPOKEN, scale=1 / per_s))
    assert (notice.reason, notice.dropped) == (Reason.WRONG_UNIT, "nothing")
    assert "the last of its 12 cues ends at" in notice.text
    assert f"as {unit} it would fit" in notice.text
    assert found(words=cues(*SPOKEN, scale=1 / per_s)) == []
    assert found(cues=cues((0.2, 0.9))) == []  # a cue at the beginning


def test_diagnose_says_when_cues_are_of_a_longer_recording() -> None:
    (notice,) = found(cues=cues(*SPOKEN, (61, 62), (80, 90)))
    assert (notice.reason, notice.dropped) == (Reason.OTHER_RECORDING, "nothing")
    assert "2 of 14 cues begin beyond the recording's end at 60.0 s, the last ends at 90.0 s" in notice.text
    assert found(cues=cues(*SPOKEN, (61, 62))) == []  # the cut rejects it


@pytest.mark.parametrize(
    ("tracks", "said"),
    [
        ({"audio": (0.0, 60.0), "video": (0.0, 20.0)}, "its video has 20.0 s, its audio 60.0 s"),
        ({"audio": (40.0, 60.0), "video": (0.0, 60.0)}, "its audio has 20.0 s, its video 60.0 s"),
    ],
)
def test_diagnose_says_when_streams_differ_in_length(tracks: dict[str, tuple[float, float]], said: str) -> None:
    (notice,) = found(tracks)
    assert (notice.reason, notice.dropped) == (Reason.LENGTH_MISMATCH, "nothing")
    assert said in notice.text


def test_diagnose_takes_streams_that_end_a_little_apart_as_they_are() -> None:
    assert found({"audio": (0.0, 60.0), "video": (0.0, 50.0)}) == []
    assert found({"audio": (0.0, 1.5), "video": (0.0, 0.75)}) == []
    assert found({"audio": (0.0, 60.0)}) == []


def test_diagnose_counts_cues_that_overlap() -> None:
    (notice,) = found(cues=cues((0, 10), (2, 3), (5, 6), (10, 12)))
    assert (notice.reason, notice.dropped) == (Reason.OVERLAP, "nothing")
    assert "2 of 4 cues begin while an earlier one is on, first at 2 s" in notice.text
    assert found(labels=[span(0, 10, label="anna"), span(5, 6, label="bob")]) == []  # speakers do


@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)), max_size=8), st.floats(0.01, 1e5))
def test_diagnose_takes_any_cues(times: list[tuple[float, float]], end_s: float) -> None:
    notices = found({"audio": (0.0, end_s)}, cues=sorted(cues(*times), key=lambda one: one["start_s"]))
    fits = all(start_s < end_s for start_s, _ in times)
    assert not fits or {notice.reason for notice in notices} <= {Reason.OVERLAP}
