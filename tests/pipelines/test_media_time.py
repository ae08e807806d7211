"""Media time is presentation time: a click and a flash of one instant, through containers and codecs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import PARAMS_FILE
from media_files import Script, write_recording
from timed_media import SIDE_PX, Tape, clicks_s, flashes_s, is_white, with_edits, write_tape

from features.sample import MediaRow
from pipelines.align import Align
from pipelines.clean import Clean
from pipelines.media.audio import from_pcm16
from pipelines.media.container import AudioRequest, Recording, VideoRequest, decode_recording
from pipelines.media.tracks import AudioTrack
from pipelines.params import load_params
from pipelines.raw import FILE_COLUMNS, file_ref

NEAR_S = 0.005
BOTH = [
    ("mp4", "libx264", "aac"),
    ("mp4", "mpeg4", "aac"),
    ("mp4", "libx264", "libmp3lame"),
    ("mp4", "libx264", "libopus"),
    ("mov", "libx264", "pcm_s16le"),
    ("mov", "libx264", "aac"),
    ("matroska", "libx264", "libopus"),
    ("matroska", "libx264", "vorbis"),
    ("matroska", "libx264", "libmp3lame"),
    ("matroska", "libx264", "flac"),
    ("matroska", "libx264", "aac"),
    ("webm", "libvpx-vp9", "libopus"),
    ("webm", "libvpx", "vorbis"),
]
SOUND = [("ipod", "aac"), ("mp3", "libmp3lame"), ("ogg", "libopus"), ("ogg", "vorbis"), ("flac", "flac")]
MP4 = {"format": "mp4", "video": "libx264", "audio": "aac"}


def tape(**changes: Any) -> Tape:
    return Tape(**{**MP4, **changes})


def decode(content: bytes) -> Recording:
    return decode_recording(
        content, audio=AudioRequest(rate_hz=16_000), video=VideoRequest(rate_hz=1000, size_px=SIDE_PX)
    )


def moments(recording: Recording) -> tuple[list[float], list[float]]:
    """When it clicks and when it flashes."""
    assert recording.audio is not None
    assert recording.video is not None
    return clicks_s(recording.audio), flashes_s(recording.video)


def write(folder: Path, recorded: Tape) -> bytes:
    return write_tape(folder / "tape", recorded).read_bytes()


@pytest.mark.parametrize(("format_", "video", "audio"), BOTH)
def test_decode_recording_times_click_and_flash_exactly(tmp_path: Path, format_: str, video: str, audio: str) -> None:
    recorded = Tape(format=format_, video=video, audio=audio, b_frames=2 * (video == "libx264"))
    heard_s, seen_s = moments(decode(write(tmp_path, recorded)))
    assert heard_s == pytest.approx(recorded.events_s, abs=1e-4)
    assert seen_s == pytest.approx(recorded.events_s, abs=1e-6)


@pytest.mark.parametrize(("format_", "audio"), SOUND)
def test_decode_recording_drops_what_the_encoder_put_before(tmp_path: Path, format_: str, audio: str) -> None:
    recorded = Tape(format=format_, audio=audio, rate_hz=48_000 if audio == "libopus" else 44_100)
    track = decode(write(tmp_path, recorded)).audio
    assert track is not None
    assert clicks_s(track) == pytest.approx(recorded.events_s, abs=1e-4)
    assert track.start_s + len(track.wave_T) / track.rate_hz == pytest.approx(3.0, abs=2e-3)


@pytest.mark.parametrize(("format_", "video", "audio"), BOTH)
@pytest.mark.parametrize("starts", [{"audio_from_s": 0.6}, {"frame_times_s": [0.4 + i / 25 for i in range(65)]}])
def test_decode_recording_keeps_what_starts_late_in_its_place(
    tmp_path: Path, format_: str, video: str, audio: str, starts: dict[str, Any]
) -> None:
    times_s = starts.get("frame_times_s", Tape(format="").frame_times_s)
    recorded = Tape(format=format_, video=video, audio=audio, events_s=(times_s[25], times_s[50]), **starts)
    recording = decode(write(tmp_path, recorded))
    heard_s, seen_s = moments(recording)
    assert heard_s == pytest.approx(recorded.events_s, abs=0.0015)  # containers round the start to 1 ms
    assert seen_s == pytest.approx(recorded.events_s, abs=0.0015)
    assert recording.video is not None
    assert recording.video.times_s[0] == pytest.approx(times_s[0], abs=0.0015)


@pytest.mark.parametrize("format_", ["mpegts", "flv"])
def test_decode_recording_keeps_streams_together_where_priming_is_not_written(tmp_path: Path, format_: str) -> None:
    heard_s, seen_s = moments(decode(write(tmp_path, tape(format=format_, b_frames=2))))
    assert heard_s == pytest.approx(seen_s, abs=1e-3)


def test_decode_recording_begins_at_zero_where_the_clock_of_a_broadcast_starts_anew(tmp_path: Path) -> None:
    """MPEG-TS counts 33 bits of 90 kHz."""
    options = {"output_ts_offset": str(2**33 / 90_000 - 2.9), "avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    recording = decode(write(tmp_path, tape(format="mpegts", options=options)))
    heard_s, seen_s = moments(recording)
    usual_s, _ = moments(decode(write(tmp_path, tape(format="mpegts"))))
    assert heard_s == pytest.approx(usual_s, abs=1e-3)
    assert seen_s == pytest.approx(heard_s, abs=1e-3)
    assert recording.audio is not None
    assert recording.audio.start_s == 0.0


@pytest.mark.parametrize(
    "flags",
    [
        "negative_cts_offsets",
        "frag_keyframe+empty_moov",
        "frag_keyframe+delay_moov",
        "frag_keyframe+delay_moov+negative_cts_offsets",
    ],
)
@pytest.mark.parametrize("first_s", [0.0, -0.33])
def test_decode_recording_reads_fragments_and_negative_offsets(tmp_path: Path, flags: str, first_s: float) -> None:
    times_s = [round(first_s + index / 25, 3) for index in range(75)]
    events_s = (times_s[20], times_s[40], times_s[60])
    recorded = tape(options={"movflags": flags}, b_frames=2, frame_times_s=times_s, events_s=events_s)
    heard_s, seen_s = moments(decode(write(tmp_path, recorded)))
    assert heard_s == pytest.approx(seen_s, abs=1e-4)
    if "empty" not in flags:  # without edits the muxer shifts all
        assert seen_s == pytest.approx(events_s, abs=1e-5)


def test_decode_recording_follows_a_cut_inside_of_a_picture(tmp_path: Path) -> None:
    """As of a film that was trimmed without encoding it again."""
    content = write(tmp_path, tape())
    content = with_edits(content, b"vide", [(2670, 29_700)])  # 0.33 s
    recording = decode(with_edits(content, b"soun", [(2670, 1024 + 15_840)]))
    heard_s, seen_s = moments(recording)
    assert heard_s == pytest.approx([0.19, 1.07, 1.95], abs=1e-4)
    assert seen_s == pytest.approx([0.19, 1.07, 1.95], abs=1e-5)
    assert recording.video is not None
    assert recording.audio is not None
    assert recording.video.times_s[:3] == pytest.approx([0.0, 0.03, 0.07])  # the picture cut into is still shown
    assert recording.video.end_s == pytest.approx(2.67)
    assert (recording.audio.start_s, len(recording.audio.wave_T)) == (0.0, 2.67 * 16_000)


def test_decode_recording_follows_edits_that_skip_and_pause(tmp_path: Path) -> None:
    content = write(tmp_path, tape())
    content = with_edits(content, b"vide", [(1000, 0), (300, -1), (1500, 90_000)])
    recording = decode(with_edits(content, b"soun", [(1000, 1024), (300, -1), (1500, 1024 + 48_000)]))
    heard_s, seen_s = moments(recording)
    assert heard_s == pytest.approx([0.52, 1.7, 2.58], abs=1e-4)
    assert seen_s == pytest.approx([0.52, 1.7, 2.58], abs=1e-5)
    assert recording.audio is not None
    assert not recording.audio.wave_T[16_010:20_790].any()


def test_decode_recording_counts_from_the_first_thing_shown(tmp_path: Path) -> None:
    content = write(tmp_path, tape())
    content = with_edits(content, b"vide", [(250, -1), (2750, 0)])
    recording = decode(with_edits(content, b"soun", [(750, -1), (2250, 1024)]))
    heard_s, seen_s = moments(recording)
    assert heard_s == pytest.approx([1.02, 1.9], abs=1e-4)
    assert seen_s == pytest.approx([0.52, 1.4, 2.28], abs=1e-5)


def test_decode_recording_leaves_edits_out_of_order_to_libav(tmp_path: Path) -> None:
    content = write(tmp_path, tape())
    content = with_edits(content, b"vide", [(1000, 180_000), (1000, 0)])
    heard_s, seen_s = moments(decode(with_edits(content, b"soun", [(1000, 1024 + 96_000), (1000, 1024)])))
    assert heard_s == pytest.approx([0.28, 1.52], abs=NEAR_S)
    assert seen_s == pytest.approx([0.28, 1.52], abs=NEAR_S)


def test_decode_recording_takes_a_late_ogg_file_whole(tmp_path: Path) -> None:
    """As one that begins in the middle of a broadcast."""
    track = decode(write(tmp_path, Tape(format="ogg", audio="libopus", audio_from_s=0.3))).audio
    assert track is not None
    assert clicks_s(track) == pytest.approx([0.22, 1.1, 1.98], abs=1e-4)


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
def test_decode_recording_resamples_without_delay(tmp_path: Path, rate_hz: int) -> None:
    recorded = Tape(format="wav", audio="pcm_s16le", rate_hz=rate_hz)
    for asked_hz in (16_000, 22_050):
        audio = decode_recording(write(tmp_path, recorded), audio=AudioRequest(rate_hz=asked_hz)).audio
        assert audio is not None
        assert clicks_s(audio) == pytest.approx(recorded.events_s, abs=2e-5)


def cut(folder: Path, cues: str | None = None, *, stream: int = 0, rate_hz: float = 25.0) -> list[MediaRow]:
    """The segments that clean and align make of the file tape in the folder, by these cues or by its own."""
    given = {"video": file_ref("tape")}
    if cues is not None:
        (folder / "cues.srt").write_text(cues)
        given["transcript"] = file_ref("cues.srt")
    params = load_params(PARAMS_FILE)
    video = params.clean.video.model_copy(update={"rate_hz": rate_hz, "stream": stream})
    named = {"key": "rec", "group": "rec", "split": "train", "source_digest": "0"}
    absent = dict.fromkeys([*FILE_COLUMNS, "label", "text", "meta", "intervals", "copy_of", "made"])
    clean = Clean(params.clean.model_copy(update={"video": video}), str(folder))
    (recording,), rejects = clean({**absent, **named, **given})
    segments, more_rejects = Align(params.align)(recording)
    assert rejects + more_rejects == []
    return list(segments)


def as_srt(*bounds_s: float) -> str:
    def stamp(time_s: float) -> str:
        return f"00:00:{int(time_s):02},{round(time_s % 1 * 1000):03}"

    cues = enumerate(pairwise(bounds_s), 1)
    return "".join(f"{number}\n{stamp(start_s)} --> {stamp(end_s)}\nword\n\n" for number, (start_s, end_s) in cues)


@pytest.mark.parametrize(("format_", "video", "audio"), BOTH)
def test_segments_begin_with_click_and_flash(tmp_path: Path, format_: str, video: str, audio: str) -> None:
    """Cues that begin NEAR_S before each of three events: none of a click and none of a flash may be in the one before,
    and each is where it should be in its own."""
    write(tmp_path, Tape(format=format_, video=video, audio=audio, audio_from_s=0.2))
    events_s = Tape(format="").events_s
    silent, *segments = cut(tmp_path, as_srt(0.0, *(time_s - NEAR_S for time_s in events_s), 2.9))
    assert not any(is_white(frame) for frame in silent["frames"])
    assert np.abs(from_pcm16(silent["audio"])).max() < 0.1
    for event_s, segment in zip(events_s, segments, strict=True):
        track = AudioTrack(from_pcm16(segment["audio"]), segment["audio_rate_hz"], segment["audio_start_s"])
        shown = zip(segment["frame_times_s"], segment["frames"], strict=True)
        assert clicks_s(track) == pytest.approx([event_s], abs=0.0015)
        assert [time_s for time_s, frame in shown if is_white(frame)] == pytest.approx([event_s], abs=0.0015)


def test_segments_of_slides_hold_the_one_on_screen(tmp_path: Path) -> None:
    """A picture each second, the third one white, that are shown on after an earlier one of the same step."""
    times_s = [0.0, 0.04, 1.0, 1.04, 2.0, 2.04, 3.0]
    write_tape(tmp_path / "tape", tape(format="matroska", frame_times_s=times_s, events_s=(2.04,), audio_to_s=4.0))
    first, second, third = cut(tmp_path, as_srt(0.5, 1.5, 2.5, 2.9), rate_hz=4.0)
    assert [is_white(segment["image"]) for segment in (first, second, third)] == [False, False, True]
    assert [is_white(frame) for frame in second["frames"]] == [False, False, True]
    assert [is_white(frame) for frame in third["frames"]] == [True]


@pytest.mark.parametrize("format_", ["mp4", "mov", "matroska", "flv", "mpegts"])
@pytest.mark.parametrize(("num_frames", "audio_to_s"), [(25, 6.0), (150, 2.0)])
def test_decode_recording_takes_streams_of_different_length(
    tmp_path: Path, format_: str, num_frames: int, audio_to_s: float
) -> None:
    times_s = [index / 25 for index in range(num_frames)]
    recording = decode(write(tmp_path, tape(format=format_, frame_times_s=times_s, audio_to_s=audio_to_s)))
    assert recording.audio is not None
    assert recording.video is not None
    assert recording.video.end_s == pytest.approx(num_frames / 25, abs=0.03)
    assert len(recording.audio.wave_T) / recording.audio.rate_hz == pytest.approx(audio_to_s, abs=0.06)


@pytest.mark.parametrize("format_", ["mp4", "matroska"])
def test_segments_of_embedded_cues_show_either_video_stream_on_one_clock(tmp_path: Path, format_: str) -> None:
    """Two pictures of one event, the second at another rate and from later on."""
    script = Script(
        format=format_,
        frame_times_s=[index / 25 for index in range(75)],
        second_frame_times_s=[0.32 + index * 0.09 for index in range(29)],
        flashes_s=[1.04, 0.32 + 8 * 0.09, 2.0, 0.32 + 19 * 0.09],
        clicks_s=[1.04, 2.0],
        audio=[(0, 3)],
        cues=[(0.9, 1.5, "one"), (1.9, 2.5, "two")],
    )
    write_recording(tmp_path / "tape", script)
    both = [cut(tmp_path, stream=stream) for stream in (0, 1)]
    for first, second, event_s in zip(*both, (1.04, 2.0), strict=True):
        assert (first["start_s"], first["end_s"], first["text"]) == (second["start_s"], second["end_s"], second["text"])
        assert first["audio"] == second["audio"]
        for segment in (first, second):
            shown = zip(segment["frame_times_s"], segment["frames"], strict=True)
            (flash_s,) = [time_s for time_s, frame in shown if is_white(frame)]
            assert flash_s == pytest.approx(event_s, abs=0.031)  # the second's frames are 90 ms apart
    assert both[1][0]["frame_times_s"][0] == pytest.approx(0.32 + 6 * 0.09, abs=1e-3)
