"""Packets of one stream to frames or cues, with an account of what could not be decoded."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from av import AudioFrame
from av.error import FFmpegError

from features.reasons import MediaError, Reason
from pipelines.media.declared import allowed_shortfall_s
from pipelines.media.edits import Edits, shown
from pipelines.media.spans import Span, by_time, span
from pipelines.media.transcripts.subtitles import plain_cue

_USUAL_RATE_HZ = 25
MAX_BACKSTEP_S = 1.0  # a clock that runs back further has started anew, and time has no meaning any more

Track = TypeVar("Track", covariant=True)


def seconds_after(zero_s: float, ticks: int, time_base: Fraction) -> float:
    """A timestamp to the microsecond, which is how exactly libav knows the zero."""
    return round(float(ticks * time_base) - zero_s, 6) + 0.0  # no minus zero


@dataclass(frozen=True)
class Clock:
    """How the times that libav gives a stream become the recording's: it counts from zero_s, and edits say what of it
    is shown when."""

    zero_s: float = 0.0
    edits: Edits = ()


class Collector(Protocol[Track]):
    """Takes what is shown of a stream, frame after frame."""

    def add(self, frame: Any, start_s: float, end_s: float) -> None: ...

    def finish(self) -> Track | None: ...


class FrameDecoder(Generic[Track]):
    """Decodes an audio or video stream into a collector."""

    def __init__(self, stream: Any, collector: Collector[Track], clock: Clock) -> None:
        self.stream = stream
        self._collector = collector
        self._clock = clock
        self._end_s = -math.inf  # of what was decoded, before it is edited
        self._held: tuple[Any, float] | None = None  # the picture that the next one will take off the screen
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
            start_s = self._start_s(frame)
            self._has_hole |= start_s > self._error_s
            self._end_s = max(self._end_s, start_s + self._duration_s(frame))
            if isinstance(frame, AudioFrame):
                self._hand_on(frame, start_s, start_s + self._duration_s(frame))
            else:
                self._hand_on_held(start_s)
                self._held = frame, start_s

    def finish(self, declared_end_s: float | None) -> Track | None:
        """The track; None if the stream is empty.

        declared_end_s: seconds after the clock's zero, before it is edited; None if the file does not say.
        Raises MediaError: UNDECODABLE if no packet could be decoded; TRUNCATED if the stream ends early or a part of
        its middle could not be decoded.
        """
        self._hand_on_held(self._end_s)
        track = self._collector.finish()
        if track is None and self._error:
            raise MediaError(Reason.UNDECODABLE, f"{self._name} cannot be decoded: {self._error}")
        end_s = max(self._end_s, 0.0)
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
        if self._end_s > -math.inf:
            ticks = packet.pts if packet.pts is not None else packet.dts
            known = ticks is not None
            time_s = seconds_after(self._clock.zero_s, ticks, packet.time_base) if known else self._end_s
            self._error_s = min(self._error_s, time_s)

    def _start_s(self, frame: Any) -> float:
        ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:  # a raw stream has no clock: its frames follow each other
            return max(self._end_s, 0.0)
        start_s = seconds_after(self._clock.zero_s, ticks, frame.time_base)
        if start_s < self._end_s - MAX_BACKSTEP_S:
            raise MediaError(
                Reason.UNDECODABLE, f"{self._name} jumps back in time from {self._end_s:.2f} s to {start_s:.2f} s"
            )
        return start_s

    def _duration_s(self, frame: Any) -> float:
        if isinstance(frame, AudioFrame):
            return frame.samples / frame.sample_rate
        if frame.duration:
            return float(frame.duration * frame.time_base)
        return 1 / float(self.stream.average_rate or self.stream.guessed_rate or _USUAL_RATE_HZ)

    def _hand_on_held(self, end_s: float) -> None:
        if self._held is not None:
            self._hand_on(*self._held, end_s)
            self._held = None

    def _hand_on(self, frame: Any, start_s: float, end_s: float) -> None:
        """Give the collector what is shown of a frame: of a picture all, of sound the samples."""
        for first_s, last_s, shown_s in shown(self._clock.edits, start_s, end_s):
            part = frame
            if isinstance(frame, AudioFrame) and (first_s, last_s) != (start_s, end_s):
                part = cut_sound(frame, first_s - start_s, last_s - start_s)
            if part is None:
                continue
            try:
                self._collector.add(part, shown_s, round(shown_s + last_s - first_s, 6))
            except FFmpegError as error:  # such as nine channels, whose places in the room are unknown
                raise MediaError(Reason.UNDECODABLE, f"{self._name} cannot be converted: {error.strerror}") from error


def cut_sound(frame: AudioFrame, start_s: float, end_s: float) -> AudioFrame | None:
    """The samples of a frame within [start_s, end_s), which count from its first one; None if there are none."""
    first, stop = (round(time_s * frame.sample_rate) for time_s in (start_s, end_s))
    if first >= stop:
        return None
    num_columns = 1 if frame.format.is_planar else frame.layout.nb_channels
    samples = frame.to_ndarray()[:, first * num_columns : stop * num_columns]
    part = AudioFrame.from_ndarray(np.ascontiguousarray(samples), frame.format.name, frame.layout.name)
    part.sample_rate = frame.sample_rate
    return part


class CueDecoder:
    """Decodes a text subtitle stream."""

    def __init__(self, stream: Any, clock: Clock) -> None:
        self.stream = stream
        self._clock = clock
        self._cues: list[Span] = []

    def feed(self, packet: Any) -> None:
        """Decode a packet. Raises MediaError BAD_TRANSCRIPT if it cannot be."""
        if not packet.size or packet.pts is None:
            return
        start_s = seconds_after(self._clock.zero_s, packet.pts, packet.time_base)
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
            for first_s, last_s, begin_s in shown(self._clock.edits, start_s, start_s + shown_s):
                self._cues.append(span(begin_s, begin_s + last_s - first_s, text=text))

    def finish(self) -> list[Span]:
        return by_time(self._cues)


def _dialogue(subtitle: Any) -> str:
    """The text of a line of SubStation Alpha, the form into which libav brings all text subtitles."""
    num_fields_before = 8
    fields = subtitle.ass.decode(errors="replace").split(",", num_fields_before)
    return str(fields[-1])
