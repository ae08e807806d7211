import pytest

from features.reasons import MediaError, Reason
from pipelines.media.transcripts.parse import parse_transcript
from pipelines.media.transcripts.subtitles import plain_cue

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


def read(content: str | bytes, suffix: str = ".srt", kind: str = "cues") -> list[tuple[float, float, str | None]]:
    found = parse_transcript(content.encode() if isinstance(content, str) else content, suffix)
    return [(one["start_s"], one["end_s"], one["text"]) for one in getattr(found, kind)]


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
        (b"-00:00:01,0 --> 00:00:01,0\nhi\n", ".srt", "line 1: '-00:00:01,0 --> 00:00:01,0'"),
        (b"hello\n\n1\n00:00:00,0 --> 00:00:01,0\nhi\n", ".srt", "'hello' is of no cue"),
        (b"1\n00:00:00,0 -> 00:00:01,0\nhi\n\n2\n00:00:01,0 --> 00:00:02,0\nho\n", ".srt", "'1 00:00:00,0 -> 00:"),
        (b"1\n99999999999999:0:0,0 -- > 0:0:1,0\nx\n\n2\n0:0:0,0 --> 0:0:1,0\nhi\n", ".srt", "cannot be read as SRT"),
        (b"1\n00:00:00,0 --> 00:00:01,0\n2\n00:00:01,0 --> 00:00:02,0\nhi\n", ".srt", "2 lines 'start --> end', but 1"),
        (b"WEBVTT\n\n00:01.0 --> 00:02.0\nhi\n\nthere\n", ".vtt", "line 6: 'there' after a blank line"),
        (b"00:01.0 --> 00:02.0\nhi\n", ".vtt", "begins with a line 'WEBVTT'"),
        (b"WEBVTT\n\n00:01.0 -> 00:02.0\nhi\n\n00:05.0 --> 6\n", ".vtt", "line 6: '00:05.0 --> 6'"),
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


@pytest.mark.parametrize(
    ("timing", "start_s", "end_s"),
    [
        ("100:00:01,5 --> 123:59:59,999", 360_001.5, 446_399.999),
        ("00:01,500 --> 00:02,250", 1.5, 2.25),  # which the package srt takes for 1 minute and 500 seconds
        ("00:00:01.5 --> 00:00:02.25", 1.5, 2.25),
        ("  0:00:01.2345678 --> 0:00:2.0  X1:100 X2:200", 1.235, 2.0),
    ],
)
@pytest.mark.parametrize(("head", "suffix"), [("", ".srt"), ("WEBVTT\n\n", ".vtt")])
def test_parse_transcript_reads_the_times_that_people_write(
    head: str, suffix: str, timing: str, start_s: float, end_s: float
) -> None:
    assert read(f"{head}1\n{timing}\nhi\n", suffix) == [(start_s, end_s, "hi")]


def test_parse_transcript_keeps_a_last_line_that_is_a_number_and_cues_without_an_index() -> None:
    text = "1\n00:00:00,0 --> 00:00:01,0\nin\n1969\n\n00:00:01,0 --> 00:00:02,0\n\n3\n00:00:02,0 --> 00:00:03,0\n42"
    assert read(text) == [(0.0, 1.0, "in 1969"), (1.0, 2.0, None), (2.0, 3.0, "42")]


def test_parse_transcript_passes_over_what_webvtt_has_besides_cues() -> None:
    text = """WEBVTT
Kind: captions
Style:
::cue(c.red) { color: red }

REGION
id:fred width:40%

NOTE 00:00.000 --> 00:01.000 is not a cue
nor is this

1
00:01.000 --> 00:02.000 region:fred align:left
<v.loud Anna Smith>hi <b>you</b></v>
- <i>and you</i>

NOTE the end
"""
    assert read(text, ".vtt") == [(1.0, 2.0, "hi you - and you")]
    assert read(text, ".vtt", "words") == []


def test_parse_transcript_takes_words_from_time_stamps_inside_cues() -> None:
    cues = "00:01.000 --> 00:02.500\n<v Anna>oh,<00:01.500><c> my</c>\n\n00:03.000 --> 00:04.000\n(yes)\n"
    words = [(1.0, 1.5, "oh,"), (1.5, 2.5, "my"), (3.0, 4.0, "(yes)")]
    assert read(f"WEBVTT\n\n{cues}", ".vtt", "words") == words
    some = f"WEBVTT\n\n{cues}\n00:04.000 --> 00:05.000\ntwo words\n"  # no word of the last cue has a time
    backward = f"WEBVTT\n\n{cues}\n00:04.000 --> 00:05.000\nno<00:03.000>more\n"
    assert read(some, ".vtt", "words") == read(backward, ".vtt", "words") == []


def test_parse_transcript_says_when_webvtt_is_a_piece_of_a_stream() -> None:
    cue = "00:01.000 --> 00:02.000\nhi\n"
    content = f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n\n{cue}"
    assert read(content, ".vtt") == [(1.0, 2.0, "hi")]
    (notice,) = parse_transcript(content.encode(), ".vtt").notices
    assert (notice.reason, notice.dropped) == (Reason.SHIFTED, "nothing")
    assert "'X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000'" in notice.text
    assert not parse_transcript(content.replace("900000", "0").encode(), ".vtt").notices


def test_parse_transcript_says_when_cues_are_out_of_order() -> None:
    (notice,) = parse_transcript(SRT.encode(), ".srt").notices
    assert (notice.reason, notice.dropped) == (Reason.OUT_OF_ORDER, "nothing")
    assert "1 of 3 cues" in notice.text
    assert "first at 0.25 s" in notice.text
