"""What is known of a stretch of a recording."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sample import media_row
from pipelines.media.said import Said
from pipelines.media.segments import Segment
from pipelines.media.spans import Span, span

stretches = st.tuples(st.integers(0, 20), st.integers(0, 10)).map(lambda t: (t[0] / 2, (t[0] + t[1]) / 2))
WORDS = [span(0.0, 1.0, text="a"), span(0.9, 1.5, text="b"), span(1.6, 2.4, text="c")]
CUES = [span(0, 1, text="one"), span(1, 2, text=None), span(2, 3, text="two")]


def segment(start_s: float, end_s: float, part: tuple[float, float] | None = None) -> Segment:
    return Segment("k", start_s - 1, end_s + 1, core=(start_s, end_s), part=part)


def test_label_is_that_of_the_longest_overlap() -> None:
    said = Said(media_row(labels=[span(0, 1, label="a"), span(1, 3, label="b"), span(3, 4, label="c")]))
    assert said.label_in((0.5, 2.0)) == "b"
    assert said.label_in((4.0, 5.0)) is None
    assert said.label_in((0.5, 1.5)) == "a"
    assert Said(media_row()).label_in((0.0, 1.0)) is None


def test_words_are_cut_off_at_the_edges_of_the_stretch_that_holds_their_middle() -> None:
    said = Said(media_row(words=WORDS))
    assert [(one["start_s"], one["end_s"], one["text"]) for one in said.words_in((0.5, 2.0)) or ()] == [
        (0.5, 1.0, "a"),
        (0.9, 1.5, "b"),
    ]
    assert said.words_in((5.0, 6.0)) == []
    assert Said(media_row()).words_in((0.0, 9.0)) is None


@given(st.lists(stretches, max_size=12), stretches)
def test_what_lies_in_a_stretch_is_found_as_by_a_look_at_all(
    places: list[tuple[float, float]], stretch: tuple[float, float]
) -> None:
    start_s, end_s = stretch
    words: list[Span] = [span(*place, text=str(number)) for number, place in enumerate(sorted(places))]
    found = Said(media_row(words=words)).words_in((start_s, end_s)) or []
    inside = [one["text"] for one in words if start_s <= (one["start_s"] + one["end_s"]) / 2 < end_s]
    assert [one["text"] for one in found] == inside


@pytest.mark.parametrize(
    ("row", "own", "is_own", "text"),
    [
        ({"cues": CUES}, None, False, "one two"),
        ({"cues": CUES, "words": WORDS}, None, False, "a b c"),
        ({"cues": CUES, "words": []}, None, False, None),
        ({"cues": CUES, "words": WORDS}, "own", False, "own"),
        ({"cues": CUES}, None, True, None),
        ({"text": "all"}, None, False, "all"),
        ({"text": "all", "cues": CUES}, None, False, "one two"),
        ({}, None, False, None),
    ],
)
def test_text_is_the_spans_own_or_words_or_cues_or_the_whole(
    row: dict[str, object], own: str | None, is_own: bool, text: str | None
) -> None:
    assert Said(media_row(**row)).text_in(segment(0.0, 3.0), span(0, 3, text=own), is_own=is_own) == text


def test_text_of_a_part_is_that_of_its_words_alone() -> None:
    part, whole = segment(0.0, 1.3, (-math.inf, 1.3)), span(0.0, 3.0, text="a b c")
    assert Said(media_row(words=WORDS, cues=CUES)).text_in(part, whole, is_own=True) == "a b"
    assert Said(media_row(cues=CUES)).text_in(part, whole, is_own=True) is None
    assert Said(media_row(cues=CUES)).text_in(part, span(0.0, 3.0), is_own=False) == "one"


def test_text_of_parts_keeps_the_words_that_an_inexact_cue_does_not_hold() -> None:
    said = Said(media_row(words=[span(-1.0, -0.5, text="a"), *WORDS]))
    inexact = span(0.6, 1.9, text="a b c")
    first, last = segment(0.6, 1.3, (-math.inf, 1.3)), segment(1.3, 1.9, (1.3, math.inf))
    assert [said.text_in(part, inexact, is_own=True) for part in (first, last)] == ["a b", "c"]
    unlike = span(0.6, 1.9, text="a B c")  # falls back on the words within
    assert [said.text_in(part, unlike, is_own=True) for part in (first, last)] == ["b", None]
