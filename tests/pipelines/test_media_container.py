import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from media_files import HEIGHT_PX, WIDTH_PX, Script, image_bytes, pixels, tone, write_recording

from features.reasons import MediaError, Reason
from pipelines.media.container import AudioRequest, Recording, Source, VideoRequest, decode_recording
from pipelines.media.pixels import decode_pixels

AUDIO = AudioRequest(rate_hz=16_000)
VIDEO = VideoRequest(rate_hz=25, size_px=WIDTH_PX)


def decode(source: Source) -> Recording:
    return decode_recording(source, audio=AUDIO, video=VIDEO, subtitle_stream=0)


def reason_of(source: Source) -> Reason:
    with pytest.raises(MediaError) as caught:
        decode(source)
    return caught.value.reason


def flashes_s(recording: Recording) -> list[float]:
    assert recording.video is not None
    shown = zip(recording.video.times_s, recording.video.frames, strict=True)
    return [time_s for time_s, frame in shown if decode_pixels(frame).mean() > 200]


def clicks_s(recording: Recording) -> list[float]:
    """Times at which loud stretches begin."""
    assert recording.audio is not None
    is_loud_T = np.abs(recording.audio.wave_T) > 0.3
    starts = np.flatnonzero(is_loud_T[1:] & ~is_loud_T[:-1]) + 1
    times_s = starts / recording.audio.rate_hz + recording.audio.start_s
    return [float(time_s) for index, time_s in enumerate(times_s) if index == 0 or time_s - times_s[index - 1] > 0.05]


def wav_bytes(wave_T: np.ndarray, rate_hz: int, format_: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave_T, rate_hz, format=format_, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("start_s", [0.0, 0.48])
def test_decode_recording_shows_flash_and_click_together(tmp_path: Path, format_: str, start_s: float) -> None:
    times_s = [start_s + index / 25 for index in range(50)]
    moments_s = [times_s[12], times_s[37]]
    script = Script(
        format=format_, frame_times_s=times_s, audio=[(start_s, start_s + 2)], flashes_s=moments_s, clicks_s=moments_s
    )
    recording = decode(write_recording(tmp_path / "recording", script))
    seen_s, heard_s = flashes_s(recording), clicks_s(recording)
    assert len(seen_s) == len(heard_s) == 2
    assert np.abs(np.array(seen_s) - heard_s).max() < 0.005
    assert seen_s[1] - seen_s[0] == pytest.approx(1.0, abs=1e-3)
    if format_ != "mpegts" and start_s == 0:
        assert seen_s == pytest.approx(moments_s, abs=1e-3)


def test_decode_recording_counts_from_a_positive_start_time(tmp_path: Path) -> None:
    script = Script(
        format="matroska", frame_times_s=[10 + index / 25 for index in range(25)], audio=[(10.2, 11)], clicks_s=[10.5]
    )
    recording = decode(write_recording(tmp_path / "recording", script))
    assert recording.video is not None
    assert recording.audio is not None
    assert (recording.video.times_s[0], recording.video.end_s) == pytest.approx((0.0, 1.0), abs=1e-3)
    assert recording.audio.start_s == pytest.approx(0.2, abs=1e-3)
    assert clicks_s(recording) == pytest.approx([0.5], abs=1e-3)


def test_decode_recording_keeps_a_late_stream_in_its_place(tmp_path: Path) -> None:
    recording = decode(write_recording(tmp_path / "recording", Script(audio=[(0.7, 2)], clicks_s=[1.2])))
    assert recording.audio is not None
    assert recording.audio.start_s == pytest.approx(0.7, abs=0.03)  # the encoder's priming comes before
    assert clicks_s(recording) == pytest.approx([1.2], abs=0.002)


@pytest.mark.parametrize(("format_", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("matroska", "pcm_s16le")])
def test_decode_recording_fills_gaps_with_silence(tmp_path: Path, format_: str, codec: str) -> None:
    script = Script(format=format_, audio_codec=codec, audio=[(0, 0.512), (1, 2)], clicks_s=[0.25, 1.5])
    recording = decode(write_recording(tmp_path / "recording", script))
    assert recording.audio is not None
    assert clicks_s(recording) == pytest.approx([0.25, 1.5], abs=0.002)
    assert not recording.audio.wave_T[9000:15_500].any()


@pytest.mark.parametrize("format_", ["mp4", "matroska"])
def test_decode_recording_reads_embedded_cues(tmp_path: Path, format_: str) -> None:
    cues = [(0.1, 0.5, r"{\i1}hello{\i0}, you\Nthere"), (0.7, 3.5, "ends after the picture")]
    recording = decode(write_recording(tmp_path / "recording", Script(format=format_, cues=cues)))
    assert recording.cues is not None
    assert [(cue["start_s"], cue["end_s"], cue["text"]) for cue in recording.cues] == [
        (0.1, 0.5, "hello, you there"),
        (0.7, 3.5, "ends after the picture"),
    ]


def test_decode_recording_knows_absent_from_out_of_range(tmp_path: Path) -> None:
    silent_film = decode(write_recording(tmp_path / "film", Script(audio=())))
    assert silent_film.audio is None
    assert silent_film.cues is None
    assert silent_film.video is not None
    content = write_recording(tmp_path / "two", Script(num_audio=2))
    assert decode_recording(content, audio=AudioRequest(stream=1, rate_hz=16_000)).audio is not None
    with pytest.raises(MediaError, match="audio stream 2 was asked for; the file has 2") as caught:
        decode_recording(content, audio=AudioRequest(stream=2, rate_hz=16_000))
    assert caught.value.reason == Reason.NO_STREAM


def test_decode_recording_takes_no_cover_for_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48_000)
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH_PX, HEIGHT_PX, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        frame = av.AudioFrame.from_ndarray(tone(0.5, 48_000)[None, :1024].copy(), "fltp", "mono")
        frame.sample_rate = 48_000
        container.mux([*sound.encode(frame), *sound.encode(None)])
        packet = av.Packet(image_bytes(pixels(), "PNG"))
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, cover.time_base
        container.mux(packet)
    recording = decode(path.read_bytes())
    assert recording.audio is not None
    assert recording.video is None


@pytest.mark.parametrize("num_channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_decode_recording_mixes_channels_at_their_level(num_channels: int, subtype: str) -> None:
    wave_TC = np.repeat(tone(0.5, 8000, frequency_hz=440)[:, None], num_channels, axis=1)
    audio = decode(wav_bytes(wave_TC, 8000, subtype=subtype)).audio
    assert audio is not None
    assert audio.wave_T.dtype == np.float32
    assert len(audio.wave_T) == 8000
    assert np.abs(audio.wave_T[100:-100] - tone(0.5, 16_000, frequency_hz=440)[100:-100]).max() < 1e-3


def test_decode_recording_reads_paths_and_files(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(tone(0.2, 16_000), 16_000))
    with open(path, "rb") as file:
        recordings = [decode_recording(source, audio=AUDIO) for source in (path, str(path), file)]
    first, *others = [recording.audio.wave_T for recording in recordings if recording.audio]
    assert np.abs(first - tone(0.2, 16_000)).max() < 1e-4
    assert [other.tobytes() for other in others] == [first.tobytes()] * 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a video at all\n" * 20,
        b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n/etc/hostname\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    ],
)
def test_decode_recording_rejects_what_is_no_recording(content: bytes) -> None:
    assert reason_of(content) == Reason.UNDECODABLE


@pytest.mark.parametrize("suffix", ["mp4", "mp3", "flac", "aac", "m4v"])  # whose formats libav takes by name alone
def test_decode_recording_rejects_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty.{suffix}"
    path.touch()
    assert reason_of(path) == Reason.UNDECODABLE


@pytest.mark.parametrize("name", [b"free", b"moov", b"moof"])
@pytest.mark.parametrize("size", [1 << 40, 1 << 55, (1 << 63) - 1, (1 << 64) - 1])
def test_decode_recording_rejects_a_box_beyond_all_files(tmp_path: Path, name: bytes, size: int) -> None:
    path = tmp_path / "beyond.mp4"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4sQ", 1, name, size))
    assert [reason_of(source) for source in (path, path.read_bytes())] == [Reason.UNDECODABLE] * 2


def test_decode_recording_rejects_channels_without_a_place() -> None:
    assert reason_of(wav_bytes(np.full((4000, 9), 0.1), 8000)) == Reason.UNDECODABLE


def test_decode_recording_rejects_truncated_mp4_with_its_index_in_front(tmp_path: Path) -> None:
    content = write_recording(tmp_path / "recording", Script(options={"movflags": "faststart"}))
    with pytest.raises(MediaError, match=r"decodes up to \d\.\d\d s, the file declares \d\.\d\d s") as caught:
        decode(content[: len(content) * 3 // 4])
    assert caught.value.reason == Reason.TRUNCATED


def test_decode_recording_rejects_truncated_mp4_with_its_index_at_the_end(tmp_path: Path) -> None:
    content = write_recording(tmp_path / "recording", Script())
    assert reason_of(content[: len(content) * 3 // 4]) == Reason.UNDECODABLE


def test_decode_recording_rejects_truncated_matroska(tmp_path: Path) -> None:
    content = write_recording(tmp_path / "recording", Script(format="matroska"))
    assert reason_of(content[: len(content) * 6 // 10]) == Reason.TRUNCATED


@pytest.mark.parametrize(("format_", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None)])
def test_decode_recording_rejects_truncated_audio(format_: str, subtype: str | None) -> None:
    noise_T = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
    content = wav_bytes(noise_T, 16_000, format_, subtype)
    assert decode(content).audio is not None
    assert reason_of(content[: len(content) // 2]) == Reason.TRUNCATED


def test_decode_recording_rejects_a_hole_in_the_middle(tmp_path: Path) -> None:
    content = bytearray(write_recording(tmp_path / "recording", Script(options={"movflags": "faststart"})))
    with av.open(io.BytesIO(content)) as container:
        middle = [packet for packet in container.demux(audio=0) if packet.size][40:44]
    for packet in middle:
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    assert reason_of(bytes(content)) == Reason.TRUNCATED


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_decode_recording_accepts_wav_from_a_pipe(size: int) -> None:
    content = bytearray(wav_bytes(tone(0.5, 16_000), 16_000))
    data_at = content.index(b"data") + 4
    content[4:8] = content[data_at : data_at + 4] = struct.pack("<I", size)
    audio = decode(bytes(content)).audio
    assert audio is not None
    assert len(audio.wave_T) == 8000


def test_decode_recording_gives_the_same_bytes_again(tmp_path: Path) -> None:
    content = write_recording(tmp_path / "recording", Script(clicks_s=[1.0]))
    first, second = decode(content), decode(content)
    assert first.video == second.video
    assert first.audio is not None
    assert second.audio is not None
    assert first.audio.wave_T.tobytes() == second.audio.wave_T.tobytes()
