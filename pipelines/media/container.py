"""Reading audio and video files: one pass, everything decoded, on the clock that players show."""

import errno
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.codec import Properties
from av.error import FFmpegError
from av.stream import Disposition

from features.reasons import MediaError, Reason
from pipelines.media.declared import allowed_shortfall_s, check_size, container_end_s, stream_end_s
from pipelines.media.decoders import Clock, CueDecoder, FrameDecoder
from pipelines.media.edits import TrackTimes, delayed, read_track_times, shown
from pipelines.media.spans import Span
from pipelines.media.tracks import AudioCollector, AudioTrack, VideoCollector, VideoTrack

Source = bytes | str | Path | BinaryIO
"""A file's content, its path, or an open file that can seek."""


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """Which audio stream, and the rate it is resampled to."""

    stream: int = 0
    rate_hz: int


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """Which video stream, frames a second at most, longest side at most."""

    stream: int = 0
    rate_hz: float
    size_px: int


@dataclass(frozen=True)
class Recording:
    """What a file holds of what was asked for; None where it has no such stream or an empty one."""

    audio: AudioTrack | None
    video: VideoTrack | None
    cues: list[Span] | None


class MissingStreamError(MediaError):
    """A stream was asked for by a number that the file does not have. kind: audio, video or subtitle."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(Reason.NO_STREAM, text)
        self.kind = kind


_ARGUMENT = {"audio": "audio", "video": "video", "subtitle": "subtitle_stream"}


def decode_what_there_is(
    open_source: Callable[[], Source], **asked: Any
) -> "tuple[Recording, list[MissingStreamError]]":
    """As decode_recording(), without the streams that the file does not have, each with its error.

    open_source: called again after each of these. Raises as decode_recording() does for all else.
    """
    missing: list[MissingStreamError] = []
    while True:
        try:
            return decode_recording(open_source(), **asked), missing
        except MissingStreamError as error:
            missing.append(error)
            asked[_ARGUMENT[error.kind]] = None


def decode_recording(
    source: Source,
    *,
    audio: AudioRequest | None = None,
    video: VideoRequest | None = None,
    subtitle_stream: int | None = None,
) -> Recording:
    """Decode the chosen streams of an audio or video file from beginning to end.

    Times are the file's presentation times in seconds, edit lists and encoders' delays accounted for. The file's start
    time is zero if it is positive (as in MPEG transport streams), since players show it so; a stream that starts later,
    or has gaps, keeps its place. Streams count within their kind; cover pictures are no video, and subtitles that are
    pictures are no subtitles.
    Raises MediaError: UNDECODABLE (no audio or video file), NO_STREAM (it has some of the kind, but not that one),
    TRUNCATED (it ends before the end that it declares, or cannot be decoded in its middle), BAD_TRANSCRIPT (a broken
    embedded cue). OSError if the source cannot be read.
    """
    with ExitStack() as stack:
        file = _as_file(source, stack)
        check_size(file)
        tracks = read_track_times(file)
        container = stack.enter_context(_open(file, ignore_edits=any(track.edits for track in tracks.values())))
        clocks = _clocks(container, tracks)
        sound = _audio_decoder(container, audio, clocks) if audio else None
        picture = _video_decoder(container, video, clocks) if video else None
        cues = _cue_decoder(container, subtitle_stream, clocks) if subtitle_stream is not None else None
        decoders = {decoder.stream.index: decoder for decoder in (sound, picture, cues) if decoder}
        furthest_s = _decode_all(container, decoders)
        recording = Recording(
            sound.finish(_end_s(container, sound.stream, clocks)) if sound else None,
            picture.finish(_end_s(container, picture.stream, clocks)) if picture else None,
            cues.finish() if cues else None,
        )
        _check_length(container, furthest_s)
        return recording


def _as_file(source: Source, stack: ExitStack) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, str | Path):
        return stack.enter_context(_LocalFile(io.FileIO(source)))
    return source


class _LocalFile(io.BufferedReader):
    """A file on disk in which a broken container may point anywhere, as in one in memory: nothing can be read there.

    How far a file may be searched before that is an error depends on the file system.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL or whence != io.SEEK_SET or offset < 0:
                raise
        super().seek(0, io.SEEK_END)
        return offset


def _open(file: BinaryIO, *, ignore_edits: bool) -> Any:
    """An open container with audio or video in it. Raises MediaError UNDECODABLE.

    ignore_edits: its streams keep the times of their media.
    """
    try:
        # A playlist could name any file or address: what it names is not opened.
        options = {"protocol_whitelist": "none", "ignore_editlist": str(int(ignore_edits))}
        container = av.open(file, "r", container_options=options, metadata_errors="replace")
    except FFmpegError as error:
        raise MediaError(Reason.UNDECODABLE, f"it is no audio or video file, or broken: {error.strerror}") from error
    if not container.streams.audio and not container.streams.video:
        with container:
            raise MediaError(Reason.UNDECODABLE, f"a file of format {container.format.name} has no audio and no video")
    return container


Clocks = dict[int, Clock]
"""The clock of each stream of a file, by its index."""


def _clocks(container: Any, tracks: Mapping[int, TrackTimes]) -> Clocks:
    times = {stream.index: tracks.get(stream.id, TrackTimes()) for stream in container.streams}
    if any(one != TrackTimes() for one in times.values()):
        played = [*container.streams.audio, *_films(container)]
        start_s = min((_start_s(stream, times[stream.index]) for stream in played), default=0.0)
    else:
        start_s = (container.start_time or 0) / av.time_base
    # Below zero is what an encoder puts before the sound, and is dropped. MPEG-TS declares no such delay; its clock
    # starts anew every 26.5 hours, and libav counts backwards from there if a file begins less than a minute before.
    zero_s = start_s if container.format.name == "mpegts" else max(0.0, start_s)
    return {
        index: Clock(one.late_s, delayed(one.edits, -zero_s)) if one.edits else Clock(one.late_s + zero_s)
        for index, one in times.items()
    }


def _start_s(stream: Any, times: TrackTimes) -> float:
    """When a stream is first shown."""
    start_s = float((stream.start_time or 0) * stream.time_base) - times.late_s
    return next((at_s for _, _, at_s in shown(times.edits, start_s, math.inf)), start_s)


def _audio_decoder(container: Any, request: AudioRequest, clocks: Clocks) -> FrameDecoder[AudioTrack] | None:
    stream = _pick(container.streams.audio, request.stream, "audio")
    return stream and FrameDecoder(stream, AudioCollector(request.rate_hz), clocks[stream.index])


def _video_decoder(container: Any, request: VideoRequest, clocks: Clocks) -> FrameDecoder[VideoTrack] | None:
    stream = _pick(_films(container), request.stream, "video")
    return stream and FrameDecoder(stream, VideoCollector(request.rate_hz, request.size_px), clocks[stream.index])


def _films(container: Any) -> list[Any]:
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _cue_decoder(container: Any, index: int, clocks: Clocks) -> CueDecoder | None:
    texts = [
        stream
        for stream in container.streams.subtitles
        if stream.codec_context and stream.codec_context.codec.properties & Properties.TEXT_SUB.value
    ]
    stream = _pick(texts, index, "subtitle")
    return stream and CueDecoder(stream, clocks[stream.index])


def _pick(streams: Sequence[Any], index: int, kind: str) -> Any:
    """The stream with the index; None if there is none of the kind. Raises MediaError NO_STREAM."""
    if not streams:
        return None
    if index >= len(streams):
        text = f"{kind} stream {index} was asked for; the file has {len(streams)}, counted from 0"
        raise MissingStreamError(kind, text)
    if streams[index].codec_context:
        streams[index].codec_context.thread_count = 1  # files are what is worked on in parallel
    return streams[index]


def _decode_all(container: Any, decoders: Mapping[int, FrameDecoder[Any] | CueDecoder]) -> float:
    """Feed every packet to its decoder. Returns the end of the last packet of any stream, on the file's own clock."""
    furthest_s = 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                furthest_s = max(furthest_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            decoder = decoders.get(packet.stream.index)  # packet.stream_index is 0 in those that end a stream
            if decoder:
                decoder.feed(packet)
    except FFmpegError as error:
        raise MediaError(
            Reason.TRUNCATED, f"the file can be read up to {furthest_s:.2f} s only: {error.strerror}"
        ) from error
    return furthest_s


def _check_length(container: Any, furthest_s: float) -> None:
    """Raise MediaError TRUNCATED if no stream reaches the end that the container declares."""
    declared_s = container_end_s(container)
    if declared_s is not None and furthest_s < declared_s - allowed_shortfall_s(declared_s):
        raise MediaError(
            Reason.TRUNCATED, f"the file's packets end at {furthest_s:.2f} s, it declares {declared_s:.2f} s"
        )


def _end_s(container: Any, stream: Any, clocks: Clocks) -> float | None:
    end_s = stream_end_s(container, stream)
    return None if end_s is None else end_s - clocks[stream.index].zero_s
