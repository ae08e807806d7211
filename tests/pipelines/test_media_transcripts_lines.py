import json
from typing import Any

import pytest

from features.reasons import MediaError, Reason
from pipelines.media.transcripts.parse import parse_labels, parse_transcript
from pipelines.media.transcripts.transcript import Choice, Transcript
from pipelines.media.transcripts.whisper import is_whisper

CTM = b""";; made by hand
talk 1 1.00 0.25 there 0.9

talk\t1  0.5  0.5   Hello
talk 1 1.25 0.75 <eps> 1.0
"""
BOTH = CTM + b"other 1 0 1 no\nother 1 1 1 way\n"
RTTM = b"""SPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA> <NA>
SPEAKER talk 1 0.5 2.0 <NA> <NA> anna <NA> <NA>
SPEAKER talk 1 2.25 1 <NA> <NA> bob <NA>
"""


def said(found: Transcript, kind: str = "words") -> list[tuple[float, float, str]]:
    return [(one["start_s"], one["end_s"], one["text"] or one["label"]) for one in getattr(found, kind)]


def test_parse_transcript_reads_the_words_of_a_ctm() -> None:
    found = parse_transcript(CTM, ".ctm", Choice(recording="anything"))
    assert said(found) == [(0.5, 1.0, "Hello"), (1.0, 1.25, "there")]
    assert not found.cues
    assert [notice.reason for notice in found.notices] == [Reason.OUT_OF_ORDER]


@pytest.mark.parametrize("recording", ["talk", "day1/talk"])
def test_parse_transcript_takes_the_words_of_its_recording(recording: str) -> None:
    assert said(parse_transcript(BOTH, ".ctm", Choice(recording=recording))) == [
        (0.5, 1.0, "Hello"),
        (1.0, 1.25, "there"),
    ]


def test_parse_transcript_lays_channels_over_each_other() -> None:
    found = parse_transcript(b"t A 1 1 yes\nt A 3 1 bye\nt B 2 .5 no\n", ".ctm")
    assert said(found) == [(1.0, 2.0, "yes"), (2.0, 2.5, "no"), (3.0, 4.0, "bye")]
    assert not found.notices


def test_parse_transcript_takes_speaker_turns_for_labels() -> None:
    turns = [(0.5, 2.5, "anna"), (2.25, 3.25, "bob")]
    assert said(parse_transcript(RTTM, ".rttm"), "labels") == turns
    assert [(one["start_s"], one["end_s"], one["label"]) for one in parse_labels(RTTM, ".RTTM")] == turns


@pytest.mark.parametrize(
    ("content", "suffix", "said"),
    [
        (BOTH, ".ctm", "CTM file tells of 2 recordings (other, talk), none called 'mine'"),
        (b"", ".ctm", "holds no word"),
        (b"t 1 0 1 hi\nt 1 0 1\n", ".ctm", "line 2: it has 4 fields"),
        (b"t 1 0 1 two words of a phrase here\n", ".ctm", "line 1: it has 10 fields"),
        (b";; x\nt 1 zero 1 hi\n", ".ctm", "line 2: 'zero' is no number"),
        (b"t 1 0 -1 hi\n", ".ctm", "line 1: '-1' is no number of seconds from 0"),
        (b"t 1 nan 1 hi\n", ".ctm", "line 1: 'nan'"),
        (b"t 1 * * <ALT_BEGIN>\n", ".ctm", "line 1: it offers alternatives"),
        (b"\xff", ".ctm", "no text in UTF-8"),
        (b"SPEAKER t 1 0 1 <NA> <NA> anna\n", ".rttm", "line 1: it has 8 fields"),
        (b"SPEAKR t 1 0 1 <NA> <NA> anna <NA>\n", ".rttm", "line 1: 'SPEAKR' is no kind of line"),
        (b"SPEAKER t 1 0 0 <NA> <NA> anna <NA>\n", ".rttm", "label 'anna' at 0 s must end after that"),
        (b"SPEAKER t 1 inf 1 <NA> <NA> anna <NA>\n", ".rttm", "line 1: 'inf'"),
    ],
)
def test_parse_transcript_rejects_lines_with_their_number(content: bytes, suffix: str, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_transcript(content, suffix, Choice(recording="mine"))
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


def whisper(content: Any) -> Transcript:
    return parse_transcript(json.dumps(content).encode(), ".json")


OPENAI = {
    "text": " Hello there. 2014!",
    "segments": [
        {
            "id": 0,
            "start": 0.0,
            "end": 1.5,
            "text": " Hello there.",
            "words": [
                {"word": " Hello", "start": 0.0, "end": 0.5, "probability": 0.9},
                {"word": " there.", "start": 0.5, "end": 1.5, "probability": 0.8},
            ],
        },
        {"id": 1, "start": 2, "end": 2.5, "text": " 2014!", "words": []},
    ],
    "language": "en",
}
CUES = [(0.0, 1.5, "Hello there."), (2.0, 2.5, "2014!")]
WORDS = [(0.0, 0.5, "Hello"), (0.5, 1.5, "there.")]


def test_parse_transcript_reads_whispers_json() -> None:
    for content in (OPENAI, OPENAI["segments"]):  # faster-whisper's segments are written as a list
        found = whisper(content)
        assert said(found, "cues") == CUES
        assert said(found) == WORDS
        assert not found.notices


def test_parse_transcript_reads_words_beside_the_segments() -> None:
    segments = [{"start": start_s, "end": end_s, "text": text} for start_s, end_s, text in CUES]
    words = [{"word": text, "start": start_s, "end": end_s} for start_s, end_s, text in WORDS]
    assert said(whisper({"segments": segments, "words": words})) == WORDS


def test_parse_transcript_reads_words_without_segments() -> None:
    words = [{"word": text, "start": start_s, "end": end_s} for start_s, end_s, text in WORDS]
    for content in ({"text": "Hello there.", "words": words}, {"segments": None, "words": words}):
        found = whisper(content)
        assert (said(found, "cues"), said(found)) == ([], WORDS)
        assert is_whisper(content)
    assert not is_whisper({"words": ["Hello", "there."]})
    assert not is_whisper({"words": []})


def test_parse_transcript_says_which_words_of_whisperx_have_no_time() -> None:
    words = [{"word": "in", "start": 0, "end": 0.5, "score": 0.9}, {"word": "2014"}]
    found = whisper({"segments": [{"start": 0, "end": 1, "text": "in 2014", "words": words}]})
    assert said(found, "cues") == [(0.0, 1.0, "in 2014")]
    assert said(found) == [(0.0, 0.5, "in")]
    (notice,) = found.notices
    assert (notice.reason, notice.dropped) == (Reason.BAD_INTERVAL, "part")
    assert "1 of 2 words have no time" in notice.text
    assert "'2014'" in notice.text


def test_parse_transcript_leaves_out_words_that_end_before_they_start() -> None:
    words = [{"text": "a", "start": 0, "end": 0}, {"text": "b", "start": 0.5, "end": 0.25}]
    found = whisper([{"start": 1, "end": 0.5, "text": "a b", "words": words}])
    assert said(found, "cues") == [(1.0, 0.5, "a b")]  # the segment that it would be is rejected by align
    assert said(found) == [(0.0, 0.0, "a")]
    assert "1 of 2 words end before they start and are left out, first 'b' at 0.5 to 0.25 s" in found.notices[0].text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON in UTF-8"),
        (b'{"segments": [\n{]}', "line 2"),
        (b"[" * 100_000, "no JSON in UTF-8"),
        (b'{"text": "hi"}', "segments must be a list of objects"),
        (b"3", "segments must be a list of objects"),
        (b"[1]", "segments must be a list of objects"),
        (b'[{"start": 0, "end": NaN, "text": "x"}]', "segments[0].end: nan"),
        (b'[{"start": 0, "end": 1e999, "text": "x"}]', "segments[0].end: inf"),
        (b'[{"start": -1, "end": 1, "text": "x"}]', "segments[0].start: -1"),
        (b'[{"start": true, "end": 1, "text": "x"}]', "segments[0].start: True"),
        (b'[{"start": 0, "text": "x"}]', "segments[0].end: None"),
        (b'[{"start": 0, "end": 1}]', "segments[0].text: None is no text"),
        (b'[{"start": 0, "end": 1, "text": "\\ud800"}]', "segments[0].text: '\\ud800' is no text"),
        (b'[{"start": 0, "end": 1, "text": "x", "words": [{"start": 0, "end": 1}]}]', "segments[0].words[0].word"),
        (b'[{"start": 0, "end": 1, "text": "x", "words": {"a": 1}}]', "segments[0].words must be a list"),
    ],
)
def test_parse_transcript_rejects_json_of_another_shape(content: bytes, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_transcript(content, ".json")
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)
