"""Edit lists and fragments as the files write them; what comes of them is tested with media time."""

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timed_media import Tape, with_edits, write_tape

from pipelines.media.edits import Edit, Edits, TrackTimes, delayed, read_track_times, shown

EDITS = (Edit(1.0, 2.0, 0.5), Edit(4.0, math.inf, 3.0))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("edits") / "tape.mp4"
    return write_tape(path, Tape(format="mp4", video="libx264", audio="aac")).read_bytes()


@pytest.mark.parametrize(
    ("start_s", "end_s", "parts"),
    [
        (0.0, 1.0, []),
        (0.9, 1.2, [(1.0, 1.2, 0.5)]),
        (1.5, 1.6, [(1.5, 1.6, 1.0)]),
        (2.5, 4.5, [(2.5, 3.0, 2.0), (4.0, 4.5, 3.0)]),
        (3.0, 4.0, []),
        (100.0, 101.0, [(100.0, 101.0, 99.0)]),
        (1.5, 1.5, [(1.5, 1.5, 1.0)]),
        (0.5, 1.0000001, []),  # no more than rounding
    ],
)
def test_shown_takes_the_parts_within_the_edits(
    start_s: float, end_s: float, parts: list[tuple[float, float, float]]
) -> None:
    assert list(shown(EDITS, start_s, end_s)) == parts
    assert list(shown((), start_s, end_s)) == [(start_s, end_s, start_s)]


def test_delayed_moves_what_is_shown() -> None:
    assert delayed(EDITS, -0.5) == (Edit(1.0, 2.0, 0.0), Edit(4.0, math.inf, 2.5))


def edits_of(content: bytes) -> list[Edits]:
    file = io.BytesIO(content)
    tracks = read_track_times(file)
    assert file.tell() == 0
    return [tracks[number].edits for number in sorted(tracks)]


def test_read_track_times_reads_edit_lists(content: bytes) -> None:
    video, audio = edits_of(content)
    assert video == (Edit(0.0, 3.0, 0.0),)
    assert audio == (Edit(1024 / 48_000, 3.0, 0.0),)
    video, audio = edits_of(with_edits(content, b"soun", [(500, -1), (1000, 4800), (200, -1), (0, 96_000)]))
    assert video == (Edit(0.0, 3.0, 0.0),)
    assert audio == (Edit(0.1, 1.0, 0.5), Edit(2.0, math.inf, 1.7))


def test_read_track_times_leaves_media_out_of_order_to_libav(content: bytes) -> None:
    assert edits_of(with_edits(content, b"vide", [(1000, 180_000), (1000, 0)])) == []


def test_read_track_times_reads_long_boxes(content: bytes) -> None:
    at = content.index(b"mdat") - 4
    size = int.from_bytes(content[at : at + 4])
    long = content[:at] + b"\0\0\0\1mdat" + (size + 8).to_bytes(8) + content[at + 8 :]
    assert edits_of(long) == edits_of(content) != []


@pytest.mark.parametrize(("flags", "late_s"), [("frag_keyframe+delay_moov", 0.0), ("cmaf", 0.04)])
def test_read_track_times_finds_what_fragments_show_before_it_is_decoded(
    tmp_path: Path, flags: str, late_s: float
) -> None:
    tape = Tape(format="mp4", video="libx264", audio="aac", b_frames=2, options={"movflags": flags})
    with open(write_tape(tmp_path / "tape.mp4", tape), "rb") as file:
        video, audio = read_track_times(file).values()
    assert video.late_s == pytest.approx(late_s)
    assert audio.late_s == 0
    assert all(edit.duration_s == math.inf for edit in (*video.edits, *audio.edits))


@pytest.mark.parametrize("other", [b"", b"RIFF", b"\x1aE\xdf\xa3" + bytes(40), b"\0\0\0\x08ftyp"])
def test_read_track_times_of_other_files_is_empty(other: bytes) -> None:
    assert edits_of(other) == []


@given(st.integers(0, 1500), st.integers(0, 255), st.booleans())
def test_read_track_times_survives_damage(content: bytes, place: int, value: int, cuts: bool) -> None:
    damaged = bytearray(content)
    damaged[content.index(b"moov") - 4 + place] = value
    if cuts:
        damaged = damaged[: len(damaged) - place]
    for times in read_track_times(io.BytesIO(bytes(damaged))).values():
        assert isinstance(times, TrackTimes)
