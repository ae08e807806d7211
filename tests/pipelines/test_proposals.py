"""What recordings are cut by."""

from typing import Any

import pytest
from test_align import RATE_HZ, recording

from features.reasons import Reason
from features.sample import MediaRow
from pipelines.align import Align, align_settings
from pipelines.media.spans import span
from pipelines.params import AlignParams
from pipelines.stage import Outcome

ALIGN = AlignParams(min_s=0.1, max_reject_ratio=0.2)
WORDS = [
    span(1.0, 1.4, text="one"),
    span(1.5, 2.0, text="two."),
    span(2.2, 3.0, text="three"),
    span(6.0, 6.5, text="x"),
]


def params(**changes: Any) -> AlignParams:
    return AlignParams.model_validate({**ALIGN.model_dump(), **changes})


def align(row: MediaRow, **changes: Any) -> Outcome:
    return Align(params(**changes))(row)


def texts(rows: list[MediaRow]) -> list[tuple[float, float, str | None]]:
    return [(row["start_s"], row["end_s"], row["text"]) for row in rows]


def test_auto_asks_for_intervals_then_cues_then_labels() -> None:
    given = {
        "intervals": [span(0.0, 1.0, key="mine")],
        "cues": [span(1.0, 2.0, text="said")],
        "labels": [span(2.0, 3.0, label="a")],
    }
    starts_s = []
    for asked in ("intervals", "cues", "labels", "whole"):
        (row,), rejects = align(recording(**given))
        assert (align(recording(**given), by=asked)[0], rejects) == ([row], [])
        starts_s.append(row["start_s"])
        given.pop(asked, None)
    assert starts_s == [0.0, 1.0, 2.0, 0.0]


@pytest.mark.parametrize("by", ["intervals", "cues", "labels", "words", "voice", "shots"])
def test_a_recording_without_what_it_is_to_be_cut_by_is_rejected(by: str) -> None:
    bare = {"shots": {"frames": None}, "voice": {"audio": None}}.get(by, {})
    rows, (reject,) = align(recording(**bare), by=by)
    assert rows == []
    assert (reject.key, reject.reason, reject.dropped) == ("rec", Reason.NOTHING_TO_CUT, "sample")
    assert reject.text.startswith(f"align.by is {by!r}, and it has no ")
    assert ("set align.forced" in reject.text) == (by == "words")


def test_a_sample_without_a_timeline_stays_whole_whatever_it_is_to_be_cut_by() -> None:
    still = recording(audio=None, frames=None, image=b"i", text="a caption")
    for by in ("window", "voice", "words", "whole"):
        (row,), rejects = align(still, by=by)
        assert (row["key"], row["text"], row["start_s"], rejects) == ("rec", "a caption", None, [])


def test_words_are_grouped_and_give_segments_their_text() -> None:
    cues = [span(0.0, 9.0, text="all that is said")]
    rows, _ = align(recording(words=WORDS, cues=cues), by="words")
    assert texts(rows) == [(1.0, 3.0, "one two. three"), (6.0, 6.5, "x")]
    rows, _ = align(recording(words=WORDS), by="words", words={"max_gap_s": 0.5, "sentences": True})
    assert [row["text"] for row in rows] == ["one two.", "three", "x"]
    assert [word["text"] for word in rows[0]["words"]] == ["one", "two."]


def test_windows_have_the_words_or_cues_whose_middle_lies_in_them() -> None:
    window = {"length_s": 5.0}
    cues = [span(0.5, 4.0, text="early"), span(4.5, 6.5, text="late")]
    rows, rejects = align(recording(cues=cues, words=WORDS), by="window", window=window)
    assert texts(rows) == [(0.0, 5.0, "one two. three"), (5.0, 10.0, "x")]
    assert rejects == []
    rows, _ = align(recording(cues=cues), by="window", window=window)
    assert texts(rows) == [(0.0, 5.0, "early"), (5.0, 10.0, "late")]
    rows, _ = align(recording(text="a talk"), by="window", window=window)
    assert [row["text"] for row in rows] == ["a talk", "a talk"]


def test_the_last_window_is_kept_or_dropped_with_a_reason() -> None:
    rows, rejects = align(recording(), by="window", window={"length_s": 4.0})
    assert [row["end_s"] for row in rows] == [4.0, 8.0, 10.0]
    assert rejects == []
    for changes, said in (
        ({"window": {"length_s": 4.0, "last": "drop"}}, "8.0 to 10.0 s, is 2 s long, and align.window.last is 'drop'"),
        ({"window": {"length_s": 4.0}, "min_s": 2.5}, "8.0 to 10.0 s, is 2 s long, and align.min_s is 2.5"),
    ):
        rows, (reject,) = align(recording(), by="window", **changes)
        assert [row["end_s"] for row in rows] == [4.0, 8.0]
        assert (reject.key, reject.reason, reject.dropped) == ("rec", Reason.TOO_SHORT, "part")
        assert said in reject.text
    rows, (reject,) = align(recording(), by="window", window={"length_s": 11.0, "last": "drop"})
    assert (rows, reject.dropped) == ([], "sample")
    rows, rejects = align(recording(), by="window", window={"length_s": 11.0})
    assert ([row["end_s"] for row in rows], rejects) == ([10.0], [])


def test_a_recording_that_is_kept_whole_keeps_what_is_said_in_it() -> None:
    cues = [span(1.0, 2.0, text="one"), span(3.0, 4.0, text="two")]
    (row,), rejects = align(recording(cues=cues), by="whole")
    assert (row["key"], row["text"], row["cues"], rejects) == ("rec", "one two", None, [])
    (row,), _ = align(recording(text="one,  two", words=WORDS), by="whole")
    assert (row["text"], len(row["words"])) == ("one,  two", 4)
    (row,), (reject,) = align(recording(), by="whole", uncovered="shorten")
    assert (row["key"], row["end_s"], len(row["audio"])) == ("rec", 9.0, 2 * 9 * RATE_HZ)
    assert (reject.reason, reject.dropped) == (Reason.UNCOVERED, "part")
    rows, (reject,) = align(recording(), by="whole", uncovered="drop")
    assert (rows, reject.key, reject.reason) == ([], "rec", Reason.UNCOVERED)


def test_a_long_segment_is_divided_between_words_with_its_text() -> None:
    cues = [span(1.0, 6.5, text="one two. three x")]
    rows, rejects = align(recording(cues=cues, words=WORDS), max_s=4.0)
    assert rejects == []
    assert [row["key"] for row in rows] == ["rec/0000/0000", "rec/0000/0001"]
    assert [row["text"] for row in rows] == ["one two. three", "x"]
    assert rows[0]["end_s"] == rows[1]["start_s"] == 3.75
    rows, (reject,) = align(recording(cues=cues), max_s=4.0)
    assert [row["text"] for row in rows] == [None, None]
    assert (reject.key, reject.reason, reject.dropped) == ("rec/0000", Reason.NOT_ALIGNED, "text")
    rows, rejects = align(recording(cues=[span(1.0, 6.5, text="one and two. three x")], words=WORDS), max_s=4.0)
    assert [row["text"] for row in rows] == ["one two. three", "x"]
    assert [(reject.reason, reject.dropped) for reject in rejects] == [(Reason.NOT_ALIGNED, "part")]
    assert rejects[0].text.startswith("1 of the 5 words of its text are in none of its 2 parts")


def test_padding_is_media_without_what_is_said_there() -> None:
    labels = [span(0.0, 2.0, label="before"), span(2.0, 4.0, label="after")]
    intervals = [span(2.0, 4.0, key="x")]
    (row,), _ = align(recording(intervals=intervals, words=WORDS, labels=labels), pad_s=1.5)
    assert (row["start_s"], row["end_s"], row["label"], row["text"]) == (0.5, 5.5, "after", "three")
    assert (row["audio_start_s"], row["frame_times_s"][0], row["frames_end_s"]) == (0.5, 0.5, 5.5)
    assert [word["text"] for word in row["words"]] == ["three"]


def test_settings_depend_on_what_is_used() -> None:
    by_auto, by_voice, by_shots = (align_settings(params(by=by)) for by in ("auto", "voice", "shots"))
    assert by_auto == align_settings(params(voice={"threshold": 0.9}, shots={"threshold": 1.0}, words={"max_gap_s": 9}))
    assert by_voice != align_settings(params(by="voice", voice={"threshold": 0.9}))
    assert "features.encoders.silero" in by_voice["code"]
    assert not {"features.encoders.silero", "pipelines.media.shots"} & by_auto["code"].keys()
    assert "pipelines.media.shots" in by_shots["code"]
    assert "scenedetect-headless" in by_shots["libraries"]
    assert len(by_voice["weights"]) == 64
    assert by_voice["libraries"].keys() > by_auto["libraries"].keys()
