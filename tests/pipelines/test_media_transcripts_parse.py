import io
import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import srt
import webvtt
from hypothesis import assume, given
from hypothesis import strategies as st
from praatio.textgrid import IntervalTier, Textgrid
from praatio.utilities.constants import Interval
from pympi.Elan import Eaf
from webvtt.models import Timestamp

from features.reasons import MediaError
from pipelines.media.transcripts.parse import SUFFIXES, parse_labels, parse_transcript

# (start, length, words) in milliseconds from the end of the one before, as every format can hold it.
WORD = st.text("abcäßЖ字'?", min_size=1, max_size=5)
CUES = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(1, 10_000_000), st.lists(WORD, min_size=1, max_size=3)),
    min_size=1,
    max_size=6,
)
Cue = tuple[int, int, str]


def laid_out(gaps: list[tuple[int, int, list[str]]]) -> list[Cue]:
    cues: list[Cue] = []
    for gap_ms, length_ms, words in gaps:
        start_ms = gap_ms + (cues[-1][1] if cues else 0)
        cues.append((start_ms, start_ms + length_ms, " ".join(words)))
    return cues


def to_srt(cues: list[Cue]) -> bytes:
    written = [
        srt.Subtitle(index, timedelta(milliseconds=start_ms), timedelta(milliseconds=end_ms), text)
        for index, (start_ms, end_ms, text) in enumerate(cues, start=1)
    ]
    return str(srt.compose(written)).encode()


def to_vtt(cues: list[Cue]) -> bytes:
    file = webvtt.WebVTT(
        captions=[
            webvtt.Caption(*(str(Timestamp.from_seconds(ms / 1000)) for ms in times), text) for *times, text in cues
        ]
    )
    out = io.StringIO()
    file.write(out)
    return out.getvalue().encode()


def to_textgrid(cues: list[Cue]) -> bytes:
    end_s = cues[-1][1] / 1000
    grid = Textgrid(0, end_s)
    entries = [Interval(start_ms / 1000, end_ms / 1000, text) for start_ms, end_ms, text in cues]
    grid.addTier(IntervalTier("text", entries, 0, end_s))
    with tempfile.TemporaryDirectory() as folder:
        grid.save(f"{folder}/x", "long_textgrid", True)
        return Path(f"{folder}/x").read_bytes()


def to_elan(cues: list[Cue]) -> bytes:
    eaf = Eaf(author="")
    for start_ms, end_ms, text in cues:
        eaf.add_annotation("default", start_ms, end_ms, text)
    with tempfile.TemporaryDirectory() as folder:
        eaf.to_file(f"{folder}/x")
        return Path(f"{folder}/x").read_bytes()


def to_whisper(cues: list[Cue]) -> bytes:
    return json.dumps([{"start": a / 1000, "end": b / 1000, "text": text} for a, b, text in cues]).encode()


def to_tsv(cues: list[Cue]) -> bytes:
    return "".join(["start\tend\ttext\n", *(f"{a}\t{b}\t{text}\n" for a, b, text in cues)]).encode()


def to_csv(cues: list[Cue]) -> bytes:
    return "".join(["text,start_s,end_s\n", *(f"{text},{a / 1000},{b / 1000}\n" for a, b, text in cues)]).encode()


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".srt", to_srt),
        (".vtt", to_vtt),
        (".textgrid", to_textgrid),
        (".eaf", to_elan),
        (".json", to_whisper),
        (".tsv", to_tsv),
        (".csv", to_csv),
    ],
)
@given(gaps=CUES)
def test_parse_transcript_reads_back_what_is_written(
    suffix: str, write: Callable[[list[Cue]], bytes], gaps: list[tuple[int, int, list[str]]]
) -> None:
    cues = laid_out(gaps)
    found = parse_transcript(write(cues), suffix)
    assert [(cue["start_s"], cue["end_s"], cue["text"]) for cue in found.cues] == [
        (start_ms / 1000, end_ms / 1000, text) for start_ms, end_ms, text in cues
    ]
    assert not found.notices


WHOLE = to_elan([(0, 1000, "hi"), (1500, 2000, "you")])
SEEDS = {
    ".srt": to_srt([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".vtt": to_vtt([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".textgrid": to_textgrid([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".eaf": WHOLE,
    ".json": to_whisper([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".tsv": to_tsv([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".csv": to_csv([(0, 1000, "hi"), (1500, 2000, "you")]),
    ".ctm": b"t 1 0 1 hi\nt 1 1.5 0.5 you\n",
    ".rttm": b"SPEAKER t 1 0 1 <NA> <NA> hi <NA> <NA>\nSPEAKER t 1 1.5 0.5 <NA> <NA> you <NA> <NA>\n",
}


def read_or_reject(content: bytes, suffix: str) -> None:
    for parse in (parse_transcript, parse_labels):
        said = ""
        try:
            parse(content, suffix)
        except MediaError as error:
            said = str(error)
        assert "\n" not in said


@given(st.binary(max_size=200), st.sampled_from(SUFFIXES))
def test_parse_transcript_raises_nothing_but_media_errors_on_any_bytes(content: bytes, suffix: str) -> None:
    read_or_reject(content, suffix)


@given(st.data(), st.sampled_from(SUFFIXES))
def test_parse_transcript_raises_nothing_but_media_errors_on_a_damaged_file(data: st.DataObject, suffix: str) -> None:
    content = SEEDS[suffix]
    cut = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 30))
    put = data.draw(st.sampled_from([b"", b'"', b"\n", b"-->", b"-1", b"nan", b"\xff", b"<", b"[", b"\0", b"9" * 20]))
    assume(content[cut : cut + length] != put)
    read_or_reject(content[:cut] + put + content[cut + length :], suffix)
