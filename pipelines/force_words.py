"""Words of a recording whose transcript has none with times: found in its sound."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from features.errors import ConfigError, EncoderError
from features.reasons import MediaError, Reason
from features.sample import MediaRow
from pipelines.media.audio import from_pcm16, slice_pcm16, stretch_of, true_rate_hz
from pipelines.media.forced.aligning import Aligned, Aligner, align_words, split_words
from pipelines.media.segments import Loss
from pipelines.media.spans import Span, by_time, span
from pipelines.params import ForcedParams

_PAD_S = 0.5  # before and after a cue, but not into another one: cues come late and go early
_NAMED = 5  # words that a warning lists
_PCM_BYTES = 2


def aligner_settings(params: ForcedParams) -> dict[str, Any]:
    """What decides the words besides the parameters, the sound and the code: the model's bytes, versions of libraries.

    Raises ConfigError if the aligner or its model is not on this machine.
    """
    if params.aligner == "ctc":
        from pipelines.media.forced.acoustic_models import model_settings

        try:
            return model_settings(_model(params))
        except EncoderError as error:
            raise ConfigError(f"align.forced.model: {error}") from error
    from pipelines.media.forced.sphinx import sphinx_settings

    return sphinx_settings()


def force_words(row: MediaRow, params: ForcedParams | None) -> tuple[list[Span] | None, list[Loss]]:
    """The words of a recording with their times on its timeline, and a warning a kind of trouble.

    A row that has words keeps them. Where intervals or cues have texts, each is looked for in its own sound; else the
    text is looked for in all of it. What is not found has no times. Without a text or sound there is nothing to do.
    """
    if params is None or row["words"] is not None or row["audio"] is None:
        return row["words"], []
    stretches = _stretches(row)
    aligner = _load_aligner(params)
    found = _Found(row["key"], stretch_of(row["audio_drift_ppm"]))
    for stretch in stretches:
        if split_words(stretch["text"]):
            found.add(stretch, *_find(row, stretch, aligner, params.min_confidence))
    return (by_time(found.words) or None), found.warnings()


def _load_aligner(params: ForcedParams) -> Aligner:
    if params.aligner == "ctc":
        from pipelines.media.forced.acoustic_models import load_acoustic_model

        return load_acoustic_model(_model(params))
    from pipelines.media.forced.sphinx import find_words

    return find_words


def _model(params: ForcedParams) -> str:
    if params.model is None:
        raise ValueError("aligner 'ctc' has no model")
    return params.model


def _stretches(row: MediaRow) -> list[Span]:
    """The texts, each with the stretch of sound in which to look for it: padded, where nothing else is said there."""
    first_s = row["audio_start_s"]
    last_s = first_s + len(row["audio"]) / _PCM_BYTES / true_rate_hz(row)
    for spans in (row["intervals"], row["cues"]):
        spoken = by_time([one for one in spans or () if one["text"] and one["start_s"] < one["end_s"]])
        if spoken:
            return [_padded(spoken, index, first_s, last_s) for index in range(len(spoken))]
    return [span(first_s, last_s, text=row["text"])] if row["text"] else []


def _padded(spoken: Sequence[Span], index: int, first_s: float, last_s: float) -> Span:
    one = spoken[index]
    before_s = max((other["end_s"] for other in spoken[:index]), default=first_s)
    after_s = spoken[index + 1]["start_s"] if index + 1 < len(spoken) else last_s
    start_s = min(one["start_s"], max(before_s, one["start_s"] - _PAD_S))
    end_s = max(one["end_s"], min(after_s, one["end_s"] + _PAD_S))
    if start_s >= last_s or end_s <= first_s:
        return one  # as it is, to be named so
    return {**one, "start_s": max(first_s, start_s), "end_s": min(last_s, end_s)}


def _find(row: MediaRow, stretch: Span, aligner: Aligner, min_confidence: float) -> tuple[Aligned | MediaError, float]:
    """What was found of a stretch's text, and when the sound begins in which it was looked for."""
    start_s = max(stretch["start_s"], row["audio_start_s"])
    pcm = slice_pcm16(row["audio"], true_rate_hz(row), row["audio_start_s"], start_s, stretch["end_s"])
    if pcm is None:
        return MediaError(Reason.OUTSIDE_MEDIA, "there is no sound at its time"), start_s
    try:
        wave_T = from_pcm16(pcm)
        return align_words(
            wave_T, row["audio_rate_hz"], stretch["text"], aligner, min_confidence=min_confidence
        ), start_s
    except MediaError as error:
        return error, start_s


@dataclass
class _Found:
    """The words found in a recording so far, and what was not. second_s: of its audio, on the timeline."""

    key: str
    second_s: float
    words: list[Span] = field(default_factory=list)
    num_stretches: int = 0
    errors: list[tuple[Span, MediaError]] = field(default_factory=list)
    unsayable: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    def add(self, stretch: Span, outcome: Aligned | MediaError, start_s: float) -> None:
        self.num_stretches += 1
        if isinstance(outcome, MediaError):
            self.errors.append((stretch, outcome))
            return
        self.unsayable += outcome.unsayable
        self.doubtful += outcome.doubtful
        for word in outcome.words:
            first_s, last_s = (start_s + self.second_s * time_s for time_s in (word.start_s, word.end_s))
            self.words.append(span(_ms(first_s), _ms(last_s), text=word.text))

    def warnings(self) -> list[Loss]:
        """At most one a kind of trouble. Where some words have times and others have not, the text of a segment that is
        made of its words lacks these: a part is lost."""
        lost = []
        if self.errors:
            stretch, error = self.errors[0]
            where = f"{stretch['start_s']:.3f} to {stretch['end_s']:.3f} s"
            what = f"{len(self.errors)} of its {self.num_stretches} stretches of transcript have no words with times"
            dropped = "part" if self.words else "nothing"
            lost.append(Loss(self.key, error.reason, dropped, f"{what}; the first, {where}: {error}"))
        for words, why in ((self.unsayable, "which the aligner cannot say"), (self.doubtful, "which are not heard")):
            if words:
                named = ", ".join(repr(word) for word in words[:_NAMED]) + (", .." if len(words) > _NAMED else "")
                text = f"{len(words)} of its words ({named}), {why}, have no times"
                lost.append(Loss(self.key, Reason.NOT_ALIGNED, "part", text))
        return lost


def _ms(time_s: float) -> float:
    return round(time_s, 3)
