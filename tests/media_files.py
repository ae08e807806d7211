"""Small media made on the spot: images, tones, and recordings with a flash and a click at known times."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.subtitles.subtitle import SubtitleSet
from PIL import Image

RATE_HZ = 48_000
WIDTH_PX, HEIGHT_PX = 64, 48
_CLICK_S = 0.005
_TICK = Fraction(1, 1000)
_SUBTITLE_CODECS = {"mp4": "mov_text", "matroska": "srt"}
_ASS_HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Text\n"


@dataclass(frozen=True)
class Script:
    """What a recording holds; times in seconds. audio: stretches with sound; none of them means no audio stream."""

    flashes_s: Sequence[float] = ()
    frame_times_s: Sequence[float] = tuple(index / 25 for index in range(50))
    second_frame_times_s: Sequence[float] = ()  # of a second video stream
    audio: Sequence[tuple[float, float]] = ((0.0, 2.0),)
    clicks_s: Sequence[float] = ()
    cues: Sequence[tuple[float, float, str]] = ()
    rotation: int = 0
    num_audio: int = 1
    format: str = "mp4"
    audio_codec: str = "aac"
    options: dict[str, str] = field(default_factory=dict)


def pixels(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, RGB]: a smooth gradient with a bright corner at the top left, so that turns show."""
    rng = np.random.default_rng(seed)
    ramp_HW = np.linspace(20, 120, height_px)[:, None] + np.linspace(0, 40, width_px)[None]
    pixels_HWC = np.repeat(ramp_HW[:, :, None], 3, axis=2) + rng.uniform(0, 10, 3)
    pixels_HWC[: height_px // 4, : width_px // 4] = 250
    return pixels_HWC.astype(np.uint8)


def image_bytes(image: Image.Image | np.ndarray, format: str, **options: object) -> bytes:  # noqa: A002  # Pillow's name
    buffer = io.BytesIO()
    shown = image if isinstance(image, Image.Image) else Image.fromarray(image)
    shown.save(buffer, format, **options)
    return buffer.getvalue()


def tone(duration_s: float, rate_hz: int, *, frequency_hz: float = 997.0, peak: float = 0.5) -> np.ndarray:
    """float32 [sample]"""
    times_T = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * times_T)).astype(np.float32)


def write_recording(path: Path, script: Script) -> bytes:
    """Write an audio and video file and return its bytes."""
    with av.open(str(path), "w", format=script.format, options=script.options) as container:
        videos = [
            (_add_video(container, script), times_s)
            for times_s in (script.frame_times_s, script.second_frame_times_s)
            if times_s
        ]
        audio = [_add_audio(container, script) for _ in range(script.num_audio)] if script.audio else []
        subtitle = _add_subtitles(container, script) if script.cues else None
        for video, times_s in videos:
            _write_video(container, video, script, times_s)
        for stream in audio:
            _write_audio(container, stream, script)
        if subtitle is not None:
            _write_subtitles(container, subtitle, script)
    return path.read_bytes()


def _add_video(container: Any, script: Script) -> Any:
    stream = container.add_stream("libx264", rate=25, options={"g": "10"})
    stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
    stream.codec_context.time_base = _TICK
    if script.rotation:
        stream.set_display_rotation(script.rotation)
    return stream


def _add_audio(container: Any, script: Script) -> Any:
    stream = container.add_stream(script.audio_codec, rate=RATE_HZ)
    stream.layout = "mono"
    return stream


def _add_subtitles(container: Any, script: Script) -> Any:
    stream = container.add_stream(_SUBTITLE_CODECS[script.format])
    stream.codec_context.subtitle_header = _ASS_HEADER
    stream.codec_context.time_base = _TICK
    return stream


def _write_video(container: Any, stream: Any, script: Script, times_s: Sequence[float]) -> None:
    for time_s in times_s:
        shown = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8) if time_s in script.flashes_s else pixels() // 4
        frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
        frame.pts, frame.time_base = round(time_s * 1000), _TICK
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _write_audio(container: Any, stream: Any, script: Script) -> None:
    frame_size = 1024
    for start_s, end_s in script.audio:
        times_T = np.arange(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
        wave_T = 0.01 * np.sin(times_T / 20).astype(np.float32)
        for click_s in script.clicks_s:
            wave_T[(times_T >= click_s * RATE_HZ) & (times_T < (click_s + _CLICK_S) * RATE_HZ)] = 0.8
        for first in range(0, len(wave_T) - frame_size + 1, frame_size):
            frame = av.AudioFrame.from_ndarray(wave_T[None, first : first + frame_size].copy(), "fltp", "mono")
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = int(times_T[first])
            container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _write_subtitles(container: Any, stream: Any, script: Script) -> None:
    for start_s, end_s, text in script.cues:
        shown_ms = round((end_s - start_s) * 1000)
        subtitle = SubtitleSet.create(f"0,0,Default,,0,0,0,,{text}".encode(), 0, shown_ms, round(start_s * 1000))
        packet = stream.codec_context.encode_subtitle(subtitle)
        packet.stream, packet.time_base = stream, _TICK
        packet.pts = packet.dts = round(start_s * 1000)
        packet.duration = shown_ms
        container.mux(packet)
