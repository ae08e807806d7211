"""A file as a query: cleaned as the stage clean cleaned the files of the store."""

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features.encoders.base import Audio, Media, Video
from features.errors import EncoderError
from features.reasons import MediaError


def read_query(path: Path, modality: str, steps: Mapping[str, Any]) -> Media:
    """The file as a medium for a view of this modality; of a video file a view of audio gets the sound.

    steps: the settings of the store's steps. A store without the step clean gets the file as it is.
    Raises EncoderError if the file is of another kind or cannot be decoded.
    """
    if "clean" not in steps:
        from features.joint import read_file

        return read_file(path)
    kind = (mimetypes.guess_type(path.name)[0] or "unknown").partition("/")[0]
    try:
        return _clean(path, "audio" if (kind, modality) == ("video", "audio") else kind, steps["clean"])
    except MediaError as error:
        raise EncoderError(f"{path} cannot be used: {error}") from error


def _clean(path: Path, kind: str, settings: Mapping[str, Any]) -> Media:
    if kind == "text":
        from pipelines.media.text import clean_text

        return clean_text(path.read_text(encoding="utf-8", errors="replace"), **settings["text"])
    if kind == "image":
        from pipelines.media.image import clean_image

        return clean_image(path.read_bytes(), **settings["image"])
    if kind == "audio":
        return _clean_audio(path, **settings["audio"])
    if kind == "video":
        return _clean_video(path, **settings["video"])
    raise EncoderError(f"{path} is no text, image, audio or video by its suffix: rename it")


def _clean_audio(path: Path, *, rate_hz: int, loudness_lufs: float, silence_dbfs: float, stream: int) -> Audio:
    from pipelines.media.audio import check_not_silent, from_pcm16, normalise_loudness, to_pcm16
    from pipelines.media.container import AudioRequest, decode_recording

    track = decode_recording(path, audio=AudioRequest(stream=stream, rate_hz=rate_hz)).audio
    if track is None:
        raise EncoderError(f"{path} has no sound: ask with another file")
    check_not_silent(track.wave_T, silence_dbfs)
    wave_T = normalise_loudness(track.wave_T, track.rate_hz, target_lufs=loudness_lufs)
    return Audio(from_pcm16(to_pcm16(wave_T)), track.rate_hz, track.start_s)


def _clean_video(path: Path, *, rate_hz: float, size_px: int, stream: int) -> Video:
    from pipelines.media.container import VideoRequest, decode_recording

    request = VideoRequest(stream=stream, rate_hz=rate_hz, size_px=size_px)
    track = decode_recording(path, video=request).video
    if track is None:
        raise EncoderError(f"{path} has no picture: ask with another file")
    return Video(track.frames, np.array(track.times_s), track.end_s)
