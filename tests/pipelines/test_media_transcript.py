import pytest

from features.reasons import MediaError, Reason
from pipelines.media.transcript import parse_labels, parse_transcript, plain_cue

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello <i>there</i>

2
00:00:00,250 --> 00:00:01,200
{\\an8}first,
and &amp; overlapping

3
01:00:00,000 --> 01:00:01,000
call
12
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE not spoken

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Anna>Hello <00:01.500><c.loud>there</c>

NOTE nor this
over two lines

00:00:00.250 --> 00:00:01.200
a < b and c > d

empty
00:05.000 --> 00:06.000

"""


def read(content: str | bytes, suffix: str = ".srt") -> list[tuple[float, float, str | None]]:
    return [(cue["start_s"], cue["end_s"], cue["text"]) for cue in parse_transcript(content, suffix)]


SRT_CUES = [(0.25, 1.2, "first, and & overlapping"), (1.0, 2.5, "Hello there"), (3600.0, 3601.0, "call 12")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_parse_transcript_reads_srt(newline: str, encoding: str) -> None:
    assert read(SRT.replace("\n", newline).encode(encoding)) == SRT_CUES


def test_parse_transcript_reads_text_with_a_byte_order_mark() -> None:
    assert read("\ufeff" + SRT, ".SRT") == SRT_CUES


def test_parse_transcript_reads_vtt() -> None:
    spoken = [(0.25, 1.2, "a < b and c > d"), (1.0, 2.5, "Hello there")]
    assert read(VTT, ".vtt") == [*spoken, (5.0, 6.0, None)]


def test_parse_transcript_falls_back_to_windows_1252() -> None:
    assert read("1\n00:00:00,000 --> 00:00:01,000\n\x93café\x94 …".encode("latin-1", "replace"))[0][2] == "“café” ?"


def test_parse_transcript_keeps_blank_lines_inside_an_srt_cue() -> None:
    assert read("00:00:00,0 --> 00:00:01,0\nseven\n\n8\n\n9\n00:00:01,0 --> 00:00:02,0\nnine\n") == [
        (0.0, 1.0, "seven 8"),
        (1.0, 2.0, "nine"),
    ]


def test_parse_transcript_leaves_a_cue_that_ends_before_it_starts_to_align() -> None:
    assert read("00:00:02,000 --> 00:00:01,000\nx\n") == [(2.0, 1.0, "x")]


@pytest.mark.parametrize(
    ("content", "suffix", "said"),
    [
        (b"", ".srt", "no cue"),
        (b"just words\n", ".vtt", "no cue"),
        (b"1\n00:00:01,000 --> 00:0x\nhi\n", ".srt", "line 2: '00:00:01,000 --> 00:0x'"),
        (b"00:00:00,0 --> 00:00:01,0\nhi\n", ".txt", "'.txt'"),
        (b"00:00:00,0 --> 00:00:01,0\n\x81\x8d\n", ".srt", "neither UTF-8 nor Windows-1252"),
    ],
)
def test_parse_transcript_rejects(content: bytes, suffix: str, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_transcript(content, suffix)
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


def test_plain_cue_strips_markup() -> None:
    assert plain_cue(r"{\i1}one{\i0}\N<font color='red'>two</font>\hthree") == "one two three"


def test_parse_labels_reads_and_sorts() -> None:
    content = '\ufeffnote,label,end_s,start_s\r\n"x, y",seven,2.5,1\r\n,"a ""b""",1,0.5\r\n'.encode()
    labels = [(label["start_s"], label["end_s"], label["label"]) for label in parse_labels(content)]
    assert labels == [(0.5, 1.0, 'a "b"'), (1.0, 2.5, "seven")]
    assert parse_labels(b"start_s,end_s,label\n") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing"),
        (b"start_s,label\n0,x\n", "['end_s'] are missing"),
        (b"start_s,end_s,label\n0,1,a\n1,two,b\n", "row 3, column end_s: 'two'"),
        (b"start_s,end_s,label\nnan,1,a\n", "row 2, column start_s: 'nan'"),
        (b"start_s,end_s,label\n0\n", "row 2, column end_s: None"),
        (b"start_s,end_s,label\n1,1,a\n", "row 2: end_s 1 must be after start_s 1"),
        (b"start_s,end_s,label\n0,1, \n", "row 2, column label"),
        (b"start_s,end_s,label\n0,1,\xff\n", "UTF-8"),
        (b'start_s,end_s,label\n0,1,"a\n', "no CSV"),
    ],
)
def test_parse_labels_rejects_with_row_and_column(content: bytes, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_labels(content)
    assert caught.value.reason == Reason.BAD_LABELS
    assert said in str(caught.value)
