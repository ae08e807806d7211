"""The spans that a recording is cut by: its intervals, cues, labels, words, voices, shots or windows."""

from collections.abc import Mapping
from dataclasses import dataclass

from features.reasons import MediaError, Reason
from features.sample import MediaRow
from pipelines.media.audio import stretch_of
from pipelines.media.segments import Interval, Loss, hull
from pipelines.media.spans import Span, span
from pipelines.media.spoken import word_spans
from pipelines.media.windows import window_spans
from pipelines.params import AlignParams

_GIVEN = ("intervals", "cues", "labels")  # fields of a recording, in the order in which "auto" asks for them


@dataclass(frozen=True)
class Proposal:
    """Spans to cut, what they are, and what of the recording is in none of them."""

    by: str
    spans: list[Span]
    losses: tuple[Loss, ...] = ()

    @property
    def has_own_texts(self) -> bool:
        """Whether a span's text is all that is said in it, also where it has none."""
        return self.by in ("cues", "words")

    def keys(self, recording: str) -> list[str]:
        """The segments' keys: those that the manifest gives, else numbered ones under the recording's."""
        if self.by == "whole":
            return [recording]
        return [given["key"] or f"{recording}/{index:04d}" for index, given in enumerate(self.spans)]


def propose(row: MediaRow, tracks: Mapping[str, Interval], params: AlignParams) -> Proposal:
    """What the recording is to be cut by; tracks: the interval of each modality on its timeline, at least one unless
    it is cut by the manifest's intervals.

    Raises MediaError with the reason if it lacks what params.by asks for; "auto" asks for nothing.
    """
    by = _chosen(row) if params.by == "auto" else params.by
    if by == "whole":
        return Proposal(by, [span(*hull(tracks))])
    if by == "window":
        return _windows(row["key"], hull(tracks), params)
    spans = _make_spans(row, by, params)
    if not spans:
        cure = ", set align.forced to find them" if by == "words" and params.forced is None else ""
        text = (
            f"align.by is {by!r}, and it has {_MISSING[by]}: give it what it lacks{cure}, or cut it by something else"
        )
        raise MediaError(Reason.NOTHING_TO_CUT, text)
    return Proposal(by, spans)


def _chosen(row: MediaRow) -> str:
    return next((by for by in _GIVEN if row[by]), "whole")


_MISSING = {
    "intervals": "no interval in the manifest",
    "cues": "no transcript with cues",
    "labels": "no labelled interval",
    "words": "no words whose times are known",
    "voice": "no audio in which somebody speaks",
    "shots": "no video",
}


def _make_spans(row: MediaRow, by: str, params: AlignParams) -> list[Span]:
    if by in _GIVEN:
        return row[by] or []
    if by == "words":
        return word_spans(row["words"] or (), **params.words.model_dump())
    if by == "voice" and row["audio"] is not None:
        from pipelines.media.voice import voice_spans

        settings = {**params.voice.model_dump(), "stretch": stretch_of(row["audio_drift_ppm"])}
        return voice_spans(row["audio"], row["audio_rate_hz"], row["audio_start_s"], **settings)
    if by == "shots" and row["frames"] is not None:
        from pipelines.media.shots import shot_spans

        return shot_spans(row["frames"], row["frame_times_s"], row["frames_end_s"], **params.shots.model_dump())
    return []


def _windows(key: str, extent: Interval, params: AlignParams) -> Proposal:
    """Windows without the last one if that is too short, or shorter than the others and not wanted."""
    window, is_wanted = params.window, params.window.last == "keep"
    spans = window_spans(extent, length_s=window.length_s, hop_s=window.hop_s or window.length_s)
    last_s = round(spans[-1]["end_s"] - spans[-1]["start_s"], 3)
    if last_s >= (params.min_s if is_wanted else round(window.length_s, 3)) or (is_wanted and len(spans) == 1):
        return Proposal("window", spans)
    rule = f"align.min_s is {params.min_s:g}" if is_wanted else "align.window.last is 'drop'"
    text = f"its last window, {spans[-1]['start_s']} to {spans[-1]['end_s']} s, is {last_s:g} s long, and {rule}"
    if len(spans) == 1:
        raise MediaError(Reason.TOO_SHORT, text)
    return Proposal("window", spans[:-1], (Loss(key, Reason.TOO_SHORT, "part", text),))
