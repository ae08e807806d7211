from pathlib import Path

import pytest
from praatio.textgrid import IntervalTier, PointTier, Textgrid
from praatio.utilities.constants import Interval, Point
from pympi.Elan import Eaf

from features.reasons import MediaError, Reason
from pipelines.media.transcripts.parse import parse_labels, parse_transcript
from pipelines.media.transcripts.transcript import Choice, Transcript

WORDS = [Interval(0.5, 1.0, 'he"y'), Interval(1.0, 2.0, "sil"), Interval(2.0, 3.25, "you")]
UTTERANCES = [Interval(0.5, 3.25, "hey,\nyou")]


def textgrid(folder: Path, *tiers: IntervalTier | PointTier, form: str = "long_textgrid") -> bytes:
    grid = Textgrid(0, 10)
    for tier in tiers:
        grid.addTier(tier)
    path = folder / "x.TextGrid"
    grid.save(str(path), form, True)
    return path.read_bytes()


def tier(name: str, entries: list[Interval]) -> IntervalTier:
    return IntervalTier(name, entries, 0, 10)


def elan(folder: Path, **tiers: list[tuple[int, int, str]]) -> bytes:
    eaf = Eaf(author="")
    for name, annotations in tiers.items():
        eaf.add_tier(name)
        for start_ms, end_ms, text in annotations:
            eaf.add_annotation(name, start_ms, end_ms, text)
    return saved(eaf, folder)


def saved(eaf: Eaf, folder: Path) -> bytes:
    path = folder / "x.eaf"
    path.unlink(missing_ok=True)
    eaf.to_file(str(path))
    return path.read_bytes()


def said(found: Transcript, kind: str = "cues") -> list[tuple[float, float, str]]:
    return [(one["start_s"], one["end_s"], one["text"] or one["label"]) for one in getattr(found, kind)]


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_parse_transcript_reads_the_tiers_of_a_textgrid(tmp_path: Path, form: str, encoding: str) -> None:
    tiers = (tier("Words", WORDS), tier("phones", WORDS), tier("utterances", UTTERANCES))
    content = textgrid(tmp_path, *tiers, PointTier("clicks", [Point(1.5, "x")], 0, 10), form=form)
    found = parse_transcript(content.decode().encode(encoding), ".TextGrid")
    assert said(found) == [(0.5, 3.25, "hey, you")]
    assert said(found, "words") == [(0.5, 1.0, 'he"y'), (2.0, 3.25, "you")]
    assert not found.labels
    assert not found.notices


def test_parse_transcript_takes_the_only_tier_for_the_text(tmp_path: Path) -> None:
    found = parse_transcript(textgrid(tmp_path, tier("anna", UTTERANCES), tier("bob", [])), ".textgrid")
    assert said(found) == [(0.5, 3.25, "hey, you")]
    assert not found.words


def test_parse_transcript_lays_the_words_of_several_speakers_over_each_other(tmp_path: Path) -> None:
    tiers = (
        tier("bob - words", [Interval(0.75, 2.5, "hm")]),
        tier("anna - words", WORDS),
        tier("anna - phones", WORDS),
    )
    found = parse_transcript(textgrid(tmp_path, *tiers), ".textgrid")
    assert said(found, "words") == [(0.5, 1.0, 'he"y'), (0.75, 2.5, "hm"), (2.0, 3.25, "you")]
    assert not found.cues
    assert not found.notices


@pytest.mark.parametrize("form", [".textgrid", ".eaf"])
def test_parse_transcript_takes_the_tiers_that_are_chosen(tmp_path: Path, form: str) -> None:
    tiers = {"utt@anna": "hi", "utt@bob": "yes", "tok@anna": "hi", "mood": "glad"}
    if form == ".eaf":
        content = elan(tmp_path, **{name: [(500, 1500, text)] for name, text in tiers.items()})
    else:
        content = textgrid(tmp_path, *(tier(name, [Interval(0.5, 1.5, text)]) for name, text in tiers.items()))
    choice = Choice(text_tier="UTT@*", word_tier="tok@*", label_tier="mood")
    found = parse_transcript(content, form, choice)
    assert said(found) == [(0.5, 1.5, "hi"), (0.5, 1.5, "yes")]
    assert said(found, "words") == [(0.5, 1.5, "hi")]
    assert said(found, "labels") == [(0.5, 1.5, "glad")]
    assert [one["label"] for one in parse_labels(content, form, choice)] == ["glad"]
    with pytest.raises(MediaError, match=r"no tier 'sentences'.*it has .*'utt@anna', 'utt@bob', 'tok@anna', 'mood'"):
        parse_transcript(content, form, Choice(text_tier="sentences"))
    with pytest.raises(MediaError, match=r"cannot be told.*name it in clean.transcript.text_tier"):
        parse_transcript(content, form)
    with pytest.raises(MediaError, match=r"cannot be told.*clean.transcript.label_tier") as caught:
        parse_labels(content, form)
    assert caught.value.reason == Reason.BAD_LABELS


def test_parse_transcript_of_a_textgrid_that_is_broken_says_so(tmp_path: Path) -> None:
    tiers = (tier("words", WORDS), PointTier("clicks", [Point(1.5, "x")], 0, 10))
    for form in ("long_textgrid", "short_textgrid"):
        lines = textgrid(tmp_path, *tiers, form=form).decode().rstrip().splitlines(keepends=True)
        for num_lines in range(len(lines)):  # as written, but for its end: never read in part without a word
            with pytest.raises(MediaError):
                parse_transcript("".join(lines[:num_lines]).encode(), ".textgrid")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("xmin = 0.5 ", "xmin = -0.5 ", "'xmin = -0.5' is negative"),
        ("xmax = 1 ", "xmax = 1.5 ", "tier 'words': interval 1 to 2 s overlaps the one before"),
        ("xmin = 0.5 ", "xmin = 5e-1 ", "cannot be read"),
        ("xmin = 0.5 ", "xmin = 0.5.5 ", "'0.5.5' is no number"),
        ("ooTextFile", "ooBinaryFile", "save it so in Praat"),
        ('"sil"', '"sil', "broken or breaks off"),
    ],
)
def test_parse_transcript_rejects_a_textgrid(tmp_path: Path, old: str, new: str, said: str) -> None:
    content = textgrid(tmp_path, tier("words", WORDS)).decode()
    assert old in content
    with pytest.raises(MediaError) as caught:
        parse_transcript(content.replace(old, new, 1).encode(), ".textgrid")
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


def test_parse_transcript_reads_an_elan_file_with_annotations_that_refer_to_others(tmp_path: Path) -> None:
    eaf = Eaf(author="")
    eaf.add_tier("talk")
    eaf.add_annotation("talk", 2000, 3000, "zwei")  # before an earlier one
    eaf.add_annotation("talk", 500, 1500, "eins")
    eaf.add_linguistic_type("same", "Symbolic_Association")
    eaf.add_tier("English", ling="same", parent="talk")
    eaf.add_ref_annotation("English", "talk", 600, "one")
    eaf.add_ref_annotation("English", "talk", 2100, "two")
    content = saved(eaf, tmp_path)
    assert said(parse_transcript(content, ".eaf", Choice(text_tier="talk"))) == [(0.5, 1.5, "eins"), (2.0, 3.0, "zwei")]
    found = parse_transcript(content, ".eaf", Choice(text_tier="english"))
    assert said(found) == [(0.5, 1.5, "one"), (2.0, 3.0, "two")]
    assert not found.notices


def test_parse_transcript_takes_no_elan_tier_without_times_of_its_own(tmp_path: Path) -> None:
    content = elan(tmp_path, text=[(0, 2000, "hey you")], words=[(0, 1000, "hey"), (1000, 2000, "you")])
    assert len(parse_transcript(content, ".eaf").words) == 2
    untimed = content.replace(b' TIME_VALUE="1000"', b"")
    assert untimed != content
    assert not parse_transcript(untimed, ".eaf").words
    with pytest.raises(MediaError, match=r"tier 'words', which .* names, has annotations without times"):
        parse_transcript(untimed, ".eaf", Choice(word_tier="words"))


def test_parse_transcript_says_where_elan_shifts_media(tmp_path: Path) -> None:
    eaf = Eaf(author="")
    eaf.add_annotation("default", 0, 1000, "hi")
    eaf.add_linked_file("file:///a.wav", mimetype="audio/x-wav", time_origin=1200)
    (notice,) = parse_transcript(saved(eaf, tmp_path), ".eaf").notices
    assert (notice.reason, notice.dropped) == (Reason.SHIFTED, "nothing")
    assert "'file:///a.wav' 1200 ms" in notice.text


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<ANNOTATION_DOCUMENT>&c;</ANNOTATION_DOCUMENT>
"""
OUTSIDE = b"""<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>"""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "declares a document type"),
        (BOMB.decode().encode("utf-16"), "declares a document type"),
        (OUTSIDE, "declares a document type"),
        (b"<html></html>", "begins with <html>"),
        (b"", "no element found: line 1"),
        (b"<ANNOTATION_DOCUMENT>\n<TIER", "unclosed token: line 2"),
        (b"<ANNOTATION_DOCUMENT/>", "lacks what every one has"),
    ],
)
def test_parse_transcript_rejects_xml_that_is_no_elan_file(content: bytes, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        parse_transcript(content, ".eaf")
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'TIME_VALUE="1000"', b'TIME_VALUE="-1000"', "-1000 is no number of seconds"),
        (b'TIME_VALUE="1000"', b'TIME_VALUE="1,5"', "ValueError"),
        (b'TIME_SLOT_REF2="ts3"', b'TIME_SLOT_REF2="ts99"', "'ts99'"),
        (b'ANNOTATION_ID="a3"', b'ANNOTATION_ID="a2"', "2 annotations, but 1"),
        (b'TIME_UNITS="milliseconds"', b'TIME_UNITS="PAL-frames"', "'PAL-frames': save it in milliseconds"),
    ],
)
def test_parse_transcript_rejects_an_elan_file(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    content = elan(tmp_path, text=[(0, 1000, "hi"), (2000, 3000, "you")])
    content = (
        content.replace(b"<HEADER", b'<HEADER TIME_UNITS="milliseconds"') if b"TIME_UNITS" not in content else content
    )
    assert old in content
    with pytest.raises(MediaError) as caught:
        parse_transcript(content.replace(old, new, 1), ".eaf")
    assert caught.value.reason == Reason.BAD_TRANSCRIPT
    assert said in str(caught.value)


def test_parse_transcript_comes_to_an_end_where_annotations_refer_to_each_other(tmp_path: Path) -> None:
    eaf = Eaf(author="")
    eaf.add_annotation("default", 0, 1000, "hi")
    eaf.add_linguistic_type("same", "Symbolic_Association")
    eaf.add_tier("a", ling="same", parent="default")
    eaf.add_ref_annotation("a", "default", 500, "x")
    content = saved(eaf, tmp_path).replace(b'ANNOTATION_REF="a2"', b'ANNOTATION_REF="a3"')
    with pytest.raises(MediaError, match="'a3' refers to itself"):
        parse_transcript(content, ".eaf")
