"""The rules by which spans become segments."""

from itertools import pairwise
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.reasons import Reason
from pipelines.media.segments import Choose, Interval, Loss, Rules, Segment, cut_span, cut_times, hull

TRACKS = {"audio": (0.0, 10.0), "video": (0.5, 9.0)}
milliseconds = st.integers(-2000, 14000).map(lambda ms: ms / 1000)
tracks_of = st.dictionaries(
    st.sampled_from(["audio", "video"]),
    st.tuples(st.integers(-500, 3000), st.integers(1, 9000)).map(lambda t: (t[0] / 1000, (t[0] + t[1]) / 1000)),
    min_size=1,
)


@st.composite
def rules_of(draw: st.DrawFn) -> Rules:
    min_s = draw(st.integers(1, 1500)) / 1000
    max_s = draw(st.none() | st.integers(0, 4000).map(lambda extra: 2 * min_s + extra / 1000))
    uncovered = draw(st.sampled_from(["keep", "drop", "shorten"]))
    return Rules(min_s=min_s, max_s=max_s, pad_s=draw(st.integers(0, 1500)) / 1000, uncovered=uncovered)


def ideal(low_s: float, high_s: float, ideal_s: float) -> float:
    return ideal_s


def cut(start_s: float, end_s: float, choose: Choose = ideal, **rules: object) -> tuple[list[Segment], list[Loss]]:
    return cut_span("k", (start_s, end_s), TRACKS, Rules(**{"min_s": 0.1, **rules}), choose)


def bounds(segments: list[Segment]) -> list[Interval]:
    return [(segment.start_s, segment.end_s) for segment in segments]


@given(start_s=milliseconds, length_s=st.floats(-1, 9), tracks=tracks_of, rules=rules_of(), seed=st.randoms())
def test_every_span_is_a_segment_or_a_loss_and_segments_keep_the_rules(
    start_s: float, length_s: float, tracks: dict[str, Interval], rules: Rules, seed: Random
) -> None:
    def anywhere(low_s: float, high_s: float, ideal_s: float) -> float:
        return seed.uniform(low_s - 0.1, high_s + 0.1)

    segments, losses = cut_span("k", (start_s, start_s + length_s), tracks, rules, anywhere)
    whole = [loss for loss in losses if loss.dropped == "sample"]
    assert bool(segments) != bool(whole)
    assert len(whole) <= 1
    first_s, last_s = hull(tracks)
    for segment in segments:
        duration_s = round(segment.end_s - segment.start_s, 3)
        assert first_s <= segment.start_s < segment.end_s <= last_s
        assert segment.start_s <= segment.core[0] <= segment.core[1] <= segment.end_s
        assert duration_s >= rules.min_s or (segment.start_s, segment.end_s) == (first_s, last_s)
        assert rules.max_s is None or duration_s <= rules.max_s + 1e-9
        if rules.uncovered == "shorten":
            assert all(track[0] <= segment.start_s and segment.end_s <= track[1] for track in tracks.values())
    assert all(before.end_s == after.start_s for before, after in pairwise(segments))
    assert len({segment.key for segment in segments}) == len(segments)


@given(start_s=milliseconds, length_s=st.integers(100, 9000).map(lambda ms: ms / 1000))
def test_a_span_within_the_recording_is_its_own_segment_by_default(start_s: float, length_s: float) -> None:
    end_s = round(start_s + length_s, 3)
    segments, losses = cut(start_s, end_s)
    if start_s >= 0 and end_s <= 10:
        assert (segments, losses) == ([Segment("k", start_s, end_s, core=(start_s, end_s))], [])


@pytest.mark.parametrize(
    ("span", "rules", "reason", "said"),
    [
        ((3.0, 2.0), {}, Reason.BAD_INTERVAL, "segment 3.0 to 2.0 s ends before it starts"),
        ((3.0, 3.0004), {}, Reason.BAD_INTERVAL, "segment 3.0 to 3.0 s ends as it starts"),
        ((10.0, 11.0), {"pad_s": 5.0}, Reason.OUTSIDE_MEDIA, "outside of the recording, which covers 0.0 to 10.0 s"),
        ((9.95, 12.0), {}, Reason.TOO_SHORT, "has 0.050 s of media, align.min_s is 0.1"),
        ((9.0, 10.0), {"uncovered": "drop"}, Reason.UNCOVERED, "has video for 0.000 s only"),
        ((8.0, 9.1), {"uncovered": "drop"}, Reason.UNCOVERED, "has video for 1.000 s only"),
        ((9.2, 9.9), {"uncovered": "shorten"}, Reason.UNCOVERED, "has no moment that audio and video cover"),
        ((9.1, 9.9), {"uncovered": "shorten", "pad_s": 1.0}, Reason.UNCOVERED, "9.1 to 9.9 s has no moment"),
        ((8.95, 9.9), {"uncovered": "shorten"}, Reason.TOO_SHORT, "segment 8.95 to 9.9 s has 0.050 s of media"),
    ],
)
def test_cut_span_rejects_what_breaks_a_rule_with_its_reason(
    span: Interval, rules: dict[str, object], reason: Reason, said: str
) -> None:
    segments, (loss,) = cut(*span, **rules)
    assert segments == []
    assert (loss.key, loss.reason, loss.dropped) == ("k", reason, "sample")
    assert said in loss.text


def test_cut_span_of_a_recording_without_length_is_too_short() -> None:
    segments, (loss,) = cut_span("k", (0.0, 0.0003), {"audio": (0.0, 0.0003)}, Rules(min_s=0.1), ideal)
    assert (segments, loss.reason, loss.text) == ([], Reason.TOO_SHORT, "the recording lasts less than a millisecond")


def test_padding_stays_within_the_recording_and_out_of_the_core() -> None:
    (segment,), losses = cut(0.2, 2.0, pad_s=0.5)
    assert segment == Segment("k", 0.0, 2.5, core=(0.2, 2.0))
    assert losses == []
    (segment,), (loss,) = cut(9.5, 11.0, pad_s=0.5)
    assert segment == Segment("k", 9.0, 10.0, core=(9.5, 10.0))
    assert (loss.reason, loss.dropped) == (Reason.CLIPPED, "part")
    assert "segment 9.5 to 11.0 s shortened to 9.5 to 10.0 s" in loss.text


def test_a_part_of_padding_alone_has_an_empty_core_within_it() -> None:
    segments, losses = cut(4.0, 4.1, pad_s=0.3, max_s=0.2)
    assert losses == []
    assert bounds(segments) == [(3.7, 3.875), (3.875, 4.05), (4.05, 4.225), (4.225, 4.4)]
    assert [segment.core for segment in segments] == [(3.875, 3.875), (4.0, 4.05), (4.05, 4.1), (4.225, 4.225)]


def test_a_modality_that_lacks_less_than_a_segment_is_not_said_to_lack_it() -> None:
    (segment,), losses = cut(8.0, 9.099, uncovered="drop")
    assert (segment.end_s, losses) == (9.099, [])


def test_shortening_says_what_it_took() -> None:
    segments, (loss,) = cut(0.1, 2.0, uncovered="shorten")
    assert segments == [Segment("k", 0.5, 2.0, core=(0.5, 2.0))]
    assert (loss.reason, loss.dropped) == (Reason.UNCOVERED, "part")
    assert "segment 0.1 to 2.0 s shortened to 0.5 to 2.0 s, which audio and video cover" in loss.text


def test_a_recording_as_a_whole_is_never_too_short() -> None:
    segments, losses = cut_span("k", (0.0, 0.05), {"audio": (0.0, 0.05)}, Rules(min_s=0.1), ideal)
    assert (bounds(segments), losses) == ([(0.0, 0.05)], [])


def test_long_spans_are_divided_equally_and_named_after_the_span() -> None:
    segments, losses = cut(1.0, 8.0, max_s=3.0)
    assert bounds(segments) == [(1.0, 3.333), (3.333, 5.666), (5.666, 8.0)]
    assert [segment.key for segment in segments] == ["k/0000", "k/0001", "k/0002"]
    assert [segment.part for segment in segments] == [(-inf, 3.333), (3.333, 5.666), (5.666, inf)]
    assert losses == []
    (segment,), _ = cut(1.0, 4.0, max_s=3.0)
    assert (segment.key, segment.part) == ("k", None)


def test_parts_in_the_padding_have_no_core() -> None:
    segments, _ = cut(4.0, 4.2, pad_s=3.0, max_s=2.1)
    assert [segment.core[1] - segment.core[0] > 0 for segment in segments] == [False, True, False]


@given(
    start_ms=st.integers(-5000, 5000),
    length_ms=st.integers(1, 20000),
    min_ms=st.integers(1, 2000),
    extra_ms=st.integers(0, 3000),
    late=st.booleans(),
)
def test_cut_times_keep_both_limits_wherever_the_cuts_are_chosen(
    start_ms: int, length_ms: int, min_ms: int, extra_ms: int, late: bool
) -> None:
    length_ms, max_ms = max(length_ms, min_ms), 2 * min_ms + extra_ms
    span = (start_ms / 1000, (start_ms + length_ms) / 1000)
    cuts_s = cut_times(
        span, min_s=min_ms / 1000, max_s=max_ms / 1000, choose=lambda low, high, _: high + 1 if late else low - 1
    )
    edges_ms = [start_ms, *(round(cut_s * 1000) for cut_s in cuts_s), start_ms + length_ms]
    parts_ms = [after - before for before, after in pairwise(edges_ms)]
    assert len(parts_ms) == -(-length_ms // max_ms)
    assert min_ms <= min(parts_ms) <= max(parts_ms) <= max_ms


def test_a_span_without_media_is_neither_clipped_nor_padded() -> None:
    segments, losses = cut_span("k", (-1.0, 99.0), {}, Rules(min_s=0.1, pad_s=1.0, uncovered="shorten"), ideal)
    assert (bounds(segments), losses) == ([(-1.0, 99.0)], [])
