"""Recordings of any container and codec in which a click and a flash happen at the same known instants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines.media.pixels import decode_pixels
from pipelines.media.tracks import AudioTrack, VideoTrack

SIDE_PX = 64
_CLICK_S = 0.010
_LOW_HZ, _HIGH_HZ = 500.0, 5000.0  # no codec drops it, and no other instant looks like it
_EXPERIMENTAL = {"strict": "-2"}  # libav's own Vorbis encoder
_ENCODER_OPTIONS = {"libx264": {"preset": "ultrafast"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}


@dataclass(frozen=True, kw_only=True)
class Tape:
    """What a recording holds. Times are seconds on the clock of its writer; a codec of "" means no such stream.

    b_frames: how many pictures in a row the encoder may send after one that is shown later.
    """

    format: str
    audio: str = ""
    video: str = ""
    rate_hz: int = 48_000
    frame_times_s: Sequence[float] = tuple(index / 25 for index in range(75))
    audio_from_s: float = 0.0
    audio_to_s: float = 3.0
    events_s: Sequence[float] = (0.52, 1.4, 2.28)
    b_frames: int = 0
    options: dict[str, str] = field(default_factory=dict)


def click(times_T: np.ndarray) -> np.ndarray:
    """A sweep that begins at 0 s, at the times given: its onset can be found to a part of a sample."""
    is_on_T = (times_T >= 0) & (times_T < _CLICK_S)
    phase_T = 2 * np.pi * (_LOW_HZ * times_T + (_HIGH_HZ - _LOW_HZ) * times_T**2 / (2 * _CLICK_S))
    return np.where(is_on_T, np.sin(np.pi * times_T / _CLICK_S) ** 2 * np.sin(phase_T), 0.0)


def clicks_s(audio: AudioTrack) -> list[float]:
    """When clicks begin, by their correlation with the known shape; to about 10 microseconds."""
    shape_T = click(np.arange(round(_CLICK_S * audio.rate_hz)) / audio.rate_hz)
    match_T = np.abs(np.correlate(np.pad(audio.wave_T, len(shape_T)), shape_T, "valid"))
    loud = 0.3 * float(np.sum(shape_T**2))
    times_s = []
    while match_T.max() > loud:
        best = int(match_T.argmax())
        left, middle, right = match_T[best - 1 : best + 2]
        place = best - len(shape_T) + (left - right) / (left - 2 * middle + right) / 2
        times_s.append(audio.start_s + float(place) / audio.rate_hz)
        match_T[max(0, best - 4 * len(shape_T)) : best + 4 * len(shape_T)] = 0
    return sorted(times_s)


def flashes_s(video: VideoTrack) -> list[float]:
    """When white pictures come on screen."""
    return [time_s for time_s, frame in zip(video.times_s, video.frames, strict=True) if is_white(frame)]


def is_white(frame: bytes) -> bool:
    return bool(decode_pixels(frame).mean() > 130)


def write_tape(path: Path, tape: Tape) -> Path:
    """Write the recording; packets of all streams in the order of their times."""
    packets: list[Any] = []
    with av.open(str(path), "w", format=tape.format, options=tape.options) as container:
        video = _add_video(container, tape) if tape.video else None
        audio = _add_audio(container, tape) if tape.audio else None
        container.start_encoding()
        if video is not None:
            packets += [packet for frame in [*_pictures(tape), None] for packet in video.encode(frame)]
        if audio is not None:
            packets += [packet for frame in [*_sounds(tape, audio), None] for packet in audio.encode(frame)]
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


def _add_video(container: Any, tape: Tape) -> Any:
    stream = container.add_stream(tape.video, rate=25, options=_ENCODER_OPTIONS.get(tape.video, {}))
    stream.width = stream.height = SIDE_PX
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.time_base, codec.gop_size, codec.thread_count = _tick(tape), 10, 1
    codec.max_b_frames = tape.b_frames
    return stream


def _tick(tape: Tape) -> Fraction:
    return Fraction(1, 1000) if tape.video == "mpeg4" else Fraction(1, 90_000)  # the former's has 16 bits at most


def _add_audio(container: Any, tape: Tape) -> Any:
    stream = container.add_stream(tape.audio, rate=tape.rate_hz, options=_EXPERIMENTAL)
    stream.layout = _layout(tape)
    return stream


def _layout(tape: Tape) -> str:
    return "stereo" if tape.audio == "vorbis" else "mono"  # all that libav's encoder can


def _pictures(tape: Tape) -> list[av.VideoFrame]:
    frames = []
    for time_s in tape.frame_times_s:
        shown_HWC = np.full((SIDE_PX, SIDE_PX, 3), 250 if time_s in tape.events_s else 20, np.uint8)
        frame = av.VideoFrame.from_ndarray(shown_HWC, format="rgb24")
        frame.time_base = _tick(tape)
        frame.pts = round(time_s / frame.time_base)
        frames.append(frame)
    return frames


def _sounds(tape: Tape, stream: Any) -> list[av.AudioFrame]:
    size = stream.codec_context.frame_size or 1024
    first, stop = round(tape.audio_from_s * tape.rate_hz), round(tape.audio_to_s * tape.rate_hz)
    times_T = np.arange(first, stop) / tape.rate_hz
    wave_T = 0.005 * np.sin(2 * np.pi * 300 * times_T)
    for event_s in tape.events_s:
        wave_T = wave_T + 0.7 * click(times_T - event_s)
    resampler = av.AudioResampler(format=stream.format.name, layout=_layout(tape), rate=tape.rate_hz)
    frames = []
    for begin in range(0, len(wave_T), size):
        part_T = wave_T[begin : begin + size].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part_T[None], "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = tape.rate_hz, Fraction(1, tape.rate_hz), first + begin
        frames += resampler.resample(frame)
    return frames


def with_edits(content: bytes, kind: bytes, edits: Sequence[tuple[int, int]]) -> bytes:
    """An mp4 or mov file whose tracks of a kind (b"vide", b"soun") get this edit list.

    content: with its index at the end. edits: how long in ticks of the movie, and from which tick of the media;
    media tick -1 shows nothing.
    """
    entries = b"".join(duration.to_bytes(4) + start.to_bytes(4, signed=True) + b"\0\1\0\0" for duration, start in edits)
    edit_box = b"edts", _box(b"elst", bytes(4) + len(edits).to_bytes(4) + entries)

    def edited(boxes: _Boxes) -> _Boxes:
        return [boxes[0], edit_box, *(box for box in boxes[1:] if box[0] != b"edts")]

    return _with_tracks(content, kind, edited)


def with_matrix(content: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An mp4 or mov file whose pictures are shown with what lies at (x, y) at (a x + c y, b x + d y)."""
    rows = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    matrix = b"".join(number.to_bytes(4, signed=True) for number in rows)

    def turned(boxes: _Boxes) -> _Boxes:
        return [(name, body[:40] + matrix + body[76:] if name == b"tkhd" else body) for name, body in boxes]

    return _with_tracks(content, b"vide", turned)


_Boxes = list[tuple[bytes, bytes]]


def _with_tracks(content: bytes, kind: bytes, change: Callable[[_Boxes], _Boxes]) -> bytes:
    """The file with the boxes of its tracks of a kind changed."""

    def changed(name: bytes, body: bytes) -> bytes:
        if name == b"moov":
            return b"".join(_box(inner, changed(inner, content)) for inner, content in _boxes(body))
        if name == b"trak" and kind in body:
            return b"".join(_box(*box) for box in change(_boxes(body)))
        return body

    return b"".join(_box(name, changed(name, body)) for name, body in _boxes(content))


def _box(name: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4) + name + body


def _boxes(content: bytes) -> _Boxes:
    boxes = []
    while content:
        size = int.from_bytes(content[:4])
        boxes.append((content[4:8], content[8:size]))
        content = content[size:]
    return boxes
