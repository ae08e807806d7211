import pytest

from features.reasons import MediaError, Reason
from pipelines.media.transcripts.parse import parse_labels, parse_transcript


def test_parse_labels_reads_and_sorts() -> None:
    content = '\ufeffnote,label,end_s,start_s\r\n"x, y",seven,2.5,1\r\n,"a ""b""",1,0.5\r\n'.encode()
    labels = [(label["start_s"], label["end_s"], label["label"]) for label in parse_labels(content, ".csv")]
    assert labels == [(0.5, 1.0, 'a "b"'), (1.0, 2.5, "seven")]
    assert parse_labels(b"start_s,end_s,label\n", ".csv") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing"),
        (b"start_s,label\n0,x\n", "['end_s'] are missing"),
        (b"start_s;end_s;label\n0;1;x\n", "are missing: set columns apart by commas"),
        (b"start_s,end_s,label,label\n0,1,x,y\n", "two columns of one name, among start_s, end_s, label, label"),
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
        parse_labels(content, ".csv")
    assert caught.value.reason == Reason.BAD_LABELS
    assert said in str(caught.value)


@pytest.mark.parametrize(("comma", "suffix"), [(",", ".csv"), ("\t", ".tsv")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_parse_transcript_reads_texts_words_and_labels_of_a_table(comma: str, suffix: str, encoding: str) -> None:
    rows = [
        ("end_s", "start_s", "text", "word", "label", "note"),
        ("2", "0", "oh no", "", "sad", "x"),
        ("0.5", "0", "", "oh", "", ""),
        ("1.5", "0.5", "", "no", "", ""),
        ("3", "2", "", "", "", "nothing is said"),
    ]
    content = "\r\n".join(comma.join(row) for row in rows).encode(encoding)
    found = parse_transcript(content, suffix)
    assert [(cue["start_s"], cue["end_s"], cue["text"]) for cue in found.cues] == [(0, 2, "oh no"), (2, 3, None)]
    assert [(word["start_s"], word["end_s"], word["text"]) for word in found.words] == [
        (0, 0.5, "oh"),
        (0.5, 1.5, "no"),
    ]
    assert [(one["start_s"], one["end_s"], one["label"], one["text"]) for one in found.labels] == [(0, 2, "sad", None)]


def test_parse_transcript_reads_the_milliseconds_of_whispers_tsv() -> None:
    found = parse_transcript(b"start\tend\ttext\n0\t1500\tHello there.\n1500\t61250\tBye.\n", ".tsv")
    assert [(cue["start_s"], cue["end_s"]) for cue in found.cues] == [(0, 1.5), (1.5, 61.25)]


@pytest.mark.parametrize(
    ("content", "suffix", "said"),
    [
        (b"start\tend\ttext\n0.0\t1.5\thi\n", ".tsv", "row 2: start and end without a unit"),
        (b"start,end,text\n0,1500,hi\n", ".csv", "['start_s', 'end_s'] are missing"),
        (b"start_s,end_s,words\n0,1,hi\n", ".csv", "['text or word or label'] are missing"),
        (b"start_s,end_s,text\n0,1,hi,there\n", ".csv", "row 2: it has more cells"),
        (b"start_s,end_s,text\n-1,1,hi\n", ".csv", "row 2, column start_s: '-1'"),
        (b"start_s,end_s,word\n0,1,\n", ".csv", "row 2, column word: it is empty"),
    ],
)
def test_parse_transcript_rejects_a_table_with_its_row(content: bytes, suffix: str, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_transcript(content, suffix)
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


def test_parse_labels_rejects_a_transcript_without_labels() -> None:
    with pytest.raises(MediaError, match="without labels"):
        parse_labels(b"start_s,end_s,text\n0,1,hi\n", ".csv")
