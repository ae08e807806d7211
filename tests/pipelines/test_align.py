"""Cutting recordings into segments."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.reasons import Reason
from features.sample import MediaRow, media_row
from pipelines.align import Align
from pipelines.digests import sample_digests
from pipelines.media.said import Said
from pipelines.media.segments import Segment, hull
from pipelines.media.slicing import cut_segment, media_tracks
from pipelines.media.spans import span
from pipelines.params import AlignParams

RATE_HZ = 16000
ALIGN = Align(AlignParams(min_s=0.1, max_reject_ratio=0.2))


def recording(**changes: Any) -> MediaRow:
    """Ten seconds of audio, a frame each quarter of a second until second nine."""
    wave_T = np.arange(10 * RATE_HZ) % 30000
    given_fields = {
        "key": "rec",
        "recording": "rec",
        "group": "rec",
        "split": "train",
        "variant": 0,
        "audio": wave_T.astype("<i2").tobytes(),
        "audio_rate_hz": RATE_HZ,
        "audio_start_s": 0.0,
        "frames": [f"frame{index}".encode() for index in range(36)],
        "frame_times_s": [index / 4 for index in range(36)],
        "frames_end_s": 9.0,
        "source_digest": "0",
    }
    return media_row(**{**given_fields, **changes})


def cut(row: MediaRow, start_s: float, end_s: float) -> MediaRow:
    segment = Segment("key", start_s, end_s, core=(start_s, end_s))
    return cut_segment(row, Said(row), segment, span(start_s, end_s), None)


def test_align_cuts_by_cues_with_all_modalities_on_one_clock() -> None:
    cues = [span(1.0, 2.5, text="one"), span(3.001, 4.0, text="two")]
    rows, rejects = ALIGN(recording(cues=cues, labels=[span(0, 2.9, label="a"), span(2.9, 5, label="b")]))
    assert rejects == []
    first, second = rows
    assert [row["key"] for row in rows] == ["rec/0000", "rec/0001"]
    assert [(row["text"], row["label"]) for row in rows] == [("one", "a"), ("two", "b")]
    assert np.frombuffer(first["audio"], "<i2")[0] == RATE_HZ % 30000
    assert len(first["audio"]) == 2 * 1.5 * RATE_HZ
    assert first["frame_times_s"] == [1.0, 1.25, 1.5, 1.75, 2.0, 2.25]
    assert (first["start_s"], first["frames_end_s"], first["image"]) == (1.0, 2.5, b"frame7")
    assert second["audio_start_s"] == second["start_s"] == 3.001


def test_align_prefers_the_manifests_intervals_and_gives_them_the_cues_text() -> None:
    intervals = [span(0.0, 2.0, key="mine/a"), span(2.0, 4.0, key="mine/b", text="given", label="x")]
    cues = [span(0.1, 0.9, text="one"), span(1.1, 1.8, text="two"), span(2.1, 3.0, text="three")]
    rows, _ = ALIGN(recording(intervals=intervals, cues=cues))
    assert [(row["key"], row["text"], row["label"]) for row in rows] == [
        ("mine/a", "one two", None),
        ("mine/b", "given", "x"),
    ]


def test_align_falls_back_to_labelled_intervals_and_leaves_the_text_absent() -> None:
    rows, _ = ALIGN(recording(labels=[span(0.5, 1.5, label="7")]))
    assert [(row["key"], row["text"], row["label"]) for row in rows] == [("rec/0000", None, "7")]


def test_align_passes_a_sample_without_a_timeline_through() -> None:
    still = recording(audio=None, audio_rate_hz=None, audio_start_s=None, frames=None, frame_times_s=None, image=b"i")
    rows, rejects = ALIGN({**still, "text": "a caption"})
    assert rejects == []
    assert (rows[0]["key"], rows[0]["text"], rows[0]["image"], rows[0]["start_s"]) == ("rec", "a caption", b"i", None)
    assert rows[0]["digests"]["audio"] is None
    assert rows[0]["digests"]["image"] is not None


def test_align_keeps_the_interval_of_a_text_that_its_source_places_in_time() -> None:
    said = recording(audio=None, frames=None, text="hello", intervals=[span(1.0, 2.5, key="rec")])
    rows, _ = ALIGN(said)
    assert (rows[0]["key"], rows[0]["start_s"], rows[0]["end_s"]) == ("rec", 1.0, 2.5)


def test_align_keeps_a_recording_without_cues_whole() -> None:
    rows, _ = ALIGN(recording())
    assert (rows[0]["key"], rows[0]["start_s"], rows[0]["end_s"]) == ("rec", 0.0, 10.0)
    assert rows[0]["image"] == b"frame20"


@pytest.mark.parametrize(
    ("start_s", "end_s", "reason"),
    [
        (3.0, 2.0, Reason.BAD_INTERVAL),
        (3.0, 3.0, Reason.BAD_INTERVAL),
        (10.5, 11.0, Reason.OUTSIDE_MEDIA),
        (9.95, 12.0, Reason.TOO_SHORT),
        (3.0, 3.05, Reason.TOO_SHORT),
    ],
)
def test_align_rejects_a_cue_that_cannot_be_cut_with_its_reason(start_s: float, end_s: float, reason: Reason) -> None:
    cues = [span(1.0, 2.0, text="fine"), span(start_s, end_s, text="bad")]
    rows, rejects = ALIGN(recording(cues=cues))
    assert [row["text"] for row in rows] == ["fine"]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [("rec/0001", reason, "sample")]


def test_align_rejects_the_recording_when_none_of_its_cues_can_be_cut() -> None:
    rows, rejects = ALIGN(recording(cues=[span(20.0, 21.0, text="late")]))
    assert rows == []
    assert [(reject.key, reject.dropped) for reject in rejects] == [
        ("rec", "nothing"),
        ("rec/0000", "sample"),
        ("rec", "sample"),
    ]


def test_align_warns_of_times_in_the_wrong_unit_and_moves_nothing() -> None:
    cues = [span(1000.0 * start_s, 1000.0 * start_s + 900, text="ms") for start_s in range(1, 9)]
    rows, rejects = ALIGN(recording(cues=cues))
    assert rows == []
    assert [(reject.reason, reject.dropped) for reject in rejects] == [
        (Reason.WRONG_UNIT, "nothing"),
        *[(Reason.OUTSIDE_MEDIA, "sample")] * 9,
    ]


def test_align_cuts_what_a_recording_has_and_warns_of_what_is_odd() -> None:
    rows, rejects = ALIGN(recording(cues=[span(1.0, 4.0, text="one"), span(3.0, 5.0, text="two")], frames_end_s=2.0))
    assert [(row["start_s"], row["end_s"], row["text"]) for row in rows] == [(1.0, 4.0, "one"), (3.0, 5.0, "two")]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec", Reason.LENGTH_MISMATCH, "nothing"),
        ("rec", Reason.OVERLAP, "nothing"),
    ]


def test_align_shortens_a_cue_that_ends_after_the_recording_and_says_so() -> None:
    rows, rejects = ALIGN(recording(cues=[span(8.0, 12.0, text="long")]))
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["frames_end_s"]) == (8.0, 10.0, 9.0)
    assert [(reject.reason, reject.dropped) for reject in rejects] == [(Reason.CLIPPED, "part")]
    assert "8.0 to 12.0 s shortened to 8.0 to 10.0 s" in rejects[0].text


def test_align_leaves_a_modality_absent_where_it_covers_nothing() -> None:
    rows, _ = ALIGN(recording(cues=[span(9.2, 9.9, text="dark")]))
    assert rows[0]["frames"] is None
    assert rows[0]["image"] is None
    assert rows[0]["audio"] is not None


def test_align_hands_a_segment_the_words_whose_middle_lies_in_it_cut_off_at_its_edges() -> None:
    words = [span(0.8, 1.1, text="a"), span(0.9, 1.3, text="b"), span(1.5, 1.7, text="c"), span(1.8, 2.4, text="d")]
    intervals = [span(1.0, 2.0, key="x"), span(5.0, 6.0, key="y")]
    rows, _ = ALIGN(recording(intervals=intervals, words=words))
    assert [(word["start_s"], word["end_s"], word["text"]) for word in rows[0]["words"]] == [
        (1.0, 1.3, "b"),
        (1.5, 1.7, "c"),
    ]
    assert rows[1]["words"] == []
    assert ALIGN(recording(intervals=intervals))[0][0]["words"] is None
    (whole,), _ = ALIGN(recording(words=[*words, span(9.8, 10.1, text="e"), span(10.4, 10.8, text="f")]))
    assert [word["end_s"] for word in whole["words"]] == [1.1, 1.3, 1.7, 2.4, 10.0]


def test_align_says_what_is_said_or_labelled_beyond_the_recording() -> None:
    words = [span(9.0, 9.5, text="in"), span(9.8, 10.4, text="late"), span(10.5, 11.0, text="later")]
    labels = [span(9.0, 10.5, label="in"), span(10.0, 11.0, label="out")]
    (whole,), rejects = Align(AlignParams(by="whole", min_s=0.1, max_reject_ratio=0.2))(
        recording(words=words, labels=labels)
    )
    assert (whole["text"], whole["label"]) == ("in", "in")
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec", Reason.OUTSIDE_MEDIA, "part")
    ] * 2
    assert rejects[0].text == (
        "2 of its 3 words lie beyond the recording, which covers 0.000 to 10.000 s, and are in no segment; the first "
        "starts at 9.8 s"
    )
    assert rejects[1].text.startswith("1 of its 2 labels lie beyond the recording")
    assert len(ALIGN(recording(words=words, cues=[span(9.0, 9.6, text="in")]))[1]) == 0


def test_extent_is_what_any_modality_covers() -> None:
    assert hull(media_tracks(recording(audio_start_s=0.5))) == (0.0, 10.5)
    assert media_tracks(recording(audio=None, frames=None)) == {}


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=8, unique=True))
def test_segments_that_meet_share_no_audio_and_leave_none_out(cuts_ms: list[int]) -> None:
    row = recording()
    edges_s = [0.0, *(cut / 1000 for cut in sorted(cuts_ms)), 10.0]
    pieces = [cut(row, start_s, end_s)["audio"] for start_s, end_s in pairwise(edges_s)]
    assert b"".join(piece for piece in pieces if piece) == row["audio"]


def test_digests_do_not_see_where_on_the_timeline_a_segment_lies() -> None:
    early, late = recording(), recording(frame_times_s=[5 + index / 4 for index in range(36)], frames_end_s=14.0)
    late["audio_start_s"] = 5.0
    assert sample_digests(cut(early, 1.0, 2.0)) == sample_digests(cut(late, 6.0, 7.0))


@given(
    st.lists(st.tuples(st.integers(-2000, 12000), st.integers(-500, 4000)), min_size=1, max_size=6),
    st.sampled_from(["keep", "drop", "shorten"]),
    st.none() | st.integers(200, 3000),
)
def test_every_cue_becomes_segments_or_one_reject(
    cues_ms: list[tuple[int, int]], uncovered: str, max_ms: int | None
) -> None:
    cues = [span(start / 1000, (start + length) / 1000, text="x") for start, length in cues_ms]
    changes = {"uncovered": uncovered, "max_s": None if max_ms is None else max_ms / 1000}
    rows, rejects = Align(ALIGN.params.model_copy(update=changes))(recording(cues=cues))
    lost = {reject.key for reject in rejects if reject.dropped == "sample"}
    cut = {"/".join(row["key"].split("/")[:2]) for row in rows}
    assert cut.isdisjoint(lost)
    assert cut | lost - {"rec"} == {f"rec/{index:04d}" for index in range(len(cues))}
    assert bool(rows) != ("rec" in lost)
    assert len({row["key"] for row in rows}) == len(rows)


def test_align_gives_every_segment_the_text_of_the_whole_unless_there_are_cues() -> None:
    labels = [span(0.0, 2.0, label="a"), span(2.0, 4.0, label="b")]
    rows, rejects = ALIGN(recording(labels=labels, text="a talk"))
    assert [(row["text"], row["label"]) for row in rows] == [("a talk", "a"), ("a talk", "b")]
    assert rejects == []
    rows, rejects = ALIGN(recording(cues=[span(0.0, 2.0, text="one"), span(2.0, 4.0)], text="a talk"))
    assert [row["text"] for row in rows] == ["one", None]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [("rec", Reason.DUPLICATE, "part")]


def test_align_without_audio_and_video_keeps_the_manifests_samples_and_says_what_else_is_lost() -> None:
    silent = {"audio": None, "audio_start_s": None, "frames": None, "frame_times_s": None, "image": b"still"}
    intervals = [span(0.0, 2.0, key="a", text="one"), span(2.0, 40.0, key="b", label="x")]
    rows, rejects = ALIGN(recording(intervals=intervals, **silent))
    assert rejects == []
    assert [(row["key"], row["start_s"], row["end_s"], row["text"], row["label"]) for row in rows] == [
        ("a", 0.0, 2.0, "one", None),
        ("b", 2.0, 40.0, None, "x"),
    ]
    rows, rejects = ALIGN(recording(cues=[span(0.0, 2.0, text="one")], **silent))
    assert [(row["key"], row["start_s"], row["cues"]) for row in rows] == [("rec", None, None)]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec", Reason.OUTSIDE_MEDIA, "part")
    ]


def test_align_tells_sound_that_starts_late_from_the_same_sound_in_time() -> None:
    late = recording(audio_start_s=0.25, cues=[span(0.0, 0.5), span(1.0, 2.0)])
    (first, second), _ = ALIGN(late)
    assert (first["audio_start_s"], first["start_s"]) == (0.25, 0.0)
    assert (second["audio_start_s"], second["start_s"]) == (1.0, 1.0)
    (whole,), _ = ALIGN(recording(audio_start_s=0.25))
    (in_time,), _ = ALIGN(recording(frames=None, frame_times_s=None, frames_end_s=None))
    assert (whole["audio"], whole["start_s"]) == (in_time["audio"], in_time["start_s"])
    assert whole["digests"]["audio"] != in_time["digests"]["audio"]
