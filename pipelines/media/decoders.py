"""Packets of one stream to frames or cues, with an account of what could not be decoded."""

import math
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

from av.error import FFmpegError

from features.reasons import MediaError, Reason
from pipelines.media.declared import allowed_shortfall_s
from pipelines.media.spans import Span, by_time, span
from pipelines.media.transcripts.subtitles import plain_cue

MAX_BACKSTEP_S = 1.0  # a clock that runs back further has started anew, and time has no meaning any more

Track = TypeVar("Track", covariant=True)


def seconds_after(zero_s: float, ticks: int, time_base: Fraction) -> float:
    """A timestamp to the microsecond, which is how exactly libav knows the zero."""
    return round(float(ticks * time_base) - zero_s, 6) + 0.0  # no minus zero


class Collector(Protocol[Track]):
    """Takes the frames of a stream one after the other; end_s is minus infinity before the first."""

    end_s: float

    def add(self, frame: Any, time_s: float) -> None: ...

    def finish(self) -> Track | None: ...


class FrameDecoder(Generic[Track]):
    """Decodes an audio or video stream into a collector; times are seconds after zero_s."""

    def __init__(self, stream: Any, collector: Collector[Track], zero_s: float) -> None:
        self.stream = stream
        self._collector = collector
        self._zero_s = zero_s
        self._error = ""
        self._error_s = math.inf
        self._has_hole = False

    def feed(self, packet: Any) -> None:
        """Decode a packet. Raises MediaError UNDECODABLE if time runs back or a frame is of a kind nobody converts."""
        try:
            frames = packet.decode()
        except FFmpegError as error:
            self._note_error(error, packet)
            return
        for frame in frames:
            time_s = self._time_s(frame)
            self._has_hole |= time_s > self._error_s
            try:
                self._collector.add(frame, time_s)
            except FFmpegError as error:  # such as nine channels, whose places in the room are unknown
                raise MediaError(Reason.UNDECODABLE, f"{self._name} cannot be converted: {error.strerror}") from error

    def finish(self, declared_end_s: float | None) -> Track | None:
        """The track; None if the stream is empty.

        declared_end_s: on the same clock as the frames, None if the file does not say.
        Raises MediaError: UNDECODABLE if no packet could be decoded; TRUNCATED if the stream ends early or a part of
        its middle could not be decoded.
        """
        track = self._collector.finish()
        if track is None and self._error:
            raise MediaError(Reason.UNDECODABLE, f"{self._name} cannot be decoded: {self._error}")
        end_s = max(self._collector.end_s, 0.0)
        is_short = declared_end_s is not None and end_s < declared_end_s - allowed_shortfall_s(declared_end_s)
        ends_broken = math.isfinite(self._error_s) and declared_end_s is None
        if is_short or self._has_hole or ends_broken:
            declared = (
                f"the file declares {declared_end_s:.2f} s" if declared_end_s is not None else "then it is broken"
            )
            failure = (
                f", decoding failed at {self._error_s:.2f} s: {self._error}" if math.isfinite(self._error_s) else ""
            )
            raise MediaError(Reason.TRUNCATED, f"{self._name} decodes up to {end_s:.2f} s, {declared}{failure}")
        return track

    @property
    def _name(self) -> str:
        codec = self.stream.codec_context
        return (
            f"{self.stream.type} ({codec.name if codec else 'unknown codec'}, stream {self.stream.index} of the file)"
        )

    def _note_error(self, error: FFmpegError, packet: Any) -> None:
        """Remember the first error after the first frame; a broadcast that is cut out of the air begins with some."""
        self._error = self._error if math.isfinite(self._error_s) else str(error.strerror)
        if self._collector.end_s > -math.inf:
            ticks = packet.pts if packet.pts is not None else packet.dts
            known = ticks is not None
            time_s = seconds_after(self._zero_s, ticks, packet.time_base) if known else self._collector.end_s
            self._error_s = min(self._error_s, time_s)

    def _time_s(self, frame: Any) -> float:
        ticks = frame.pts if frame.pts is not None else frame.dts
        end_s = self._collector.end_s
        if ticks is None:  # a raw stream has no clock: its frames follow each other
            return max(end_s, 0.0)
        time_s = seconds_after(self._zero_s, ticks, frame.time_base)
        if time_s < end_s - MAX_BACKSTEP_S:
            raise MediaError(
                Reason.UNDECODABLE, f"{self._name} jumps back in time from {end_s:.2f} s to {time_s:.2f} s"
            )
        return time_s


class CueDecoder:
    """Decodes a text subtitle stream; times are seconds after zero_s."""

    def __init__(self, stream: Any, zero_s: float) -> None:
        self.stream = stream
        self._zero_s = zero_s
        self._cues: list[Span] = []

    def feed(self, packet: Any) -> None:
        """Decode a packet. Raises MediaError BAD_TRANSCRIPT if it cannot be."""
        if not packet.size or packet.pts is None:
            return
        start_s = seconds_after(self._zero_s, packet.pts, packet.time_base)
        try:
            subtitles = self.stream.decode2(packet)
        except FFmpegError as error:
            raise MediaError(
                Reason.BAD_TRANSCRIPT, f"embedded cue at {start_s:.3f} s cannot be decoded: {error.strerror}"
            ) from error
        lines = [_dialogue(rect) for rect in subtitles.rects] if subtitles else []
        text = plain_cue(" ".join(lines))
        if text:
            shown_s = float(packet.duration * packet.time_base) or subtitles.end_display_time / 1000
            self._cues.append(span(start_s, start_s + shown_s, text=text))

    def finish(self) -> list[Span]:
        return by_time(self._cues)


def _dialogue(subtitle: Any) -> str:
    """The text of a line of SubStation Alpha, the form into which libav brings all text subtitles."""
    num_fields_before = 8
    fields = subtitle.ass.decode(errors="replace").split(",", num_fields_before)
    return str(fields[-1])
