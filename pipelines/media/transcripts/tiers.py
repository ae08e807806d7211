"""Which tiers of an annotation are its text, its words and its labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipelines.media.spans import Span, by_time, span
from pipelines.media.transcripts.transcript import Choice, Transcript, bad, make_transcript, spoken

_WORD_TIERS = ("word", "words", "* - words")  # the last as the Montreal Forced Aligner names them, one a speaker
_TEXT_TIERS = ("text", "utterance", "utterances", "sentence", "sentences", "transcript", "transcription")


@dataclass(frozen=True)
class Tier:
    """A tier: its intervals (start_s, end_s, content) as the file has them, or why it has none that can be used."""

    name: str
    intervals: Sequence[tuple[float, float, str]]
    useless: str = ""


def choose_tiers(tiers: Sequence[Tier], choice: Choice) -> Transcript:
    """The spans of the chosen tiers; several that a pattern names are laid over each other.

    Unless they are chosen, words are the tiers that are called so, and text those that are, or else the only tier
    there is. Intervals without content, or marked as silence, are gaps.
    Raises MediaError BAD_TRANSCRIPT if a tier that is chosen is not there or of no use, or nothing can be chosen.
    """
    word_tiers, text_tiers = _chosen(tiers, choice.word_tier), _chosen(tiers, choice.text_tier)
    label_tiers = _chosen(tiers, choice.label_tier)
    filled = [tier for tier in tiers if _spans([tier])]
    if choice.word_tier is None:
        word_tiers = _called(filled, _WORD_TIERS, without=[*text_tiers, *label_tiers])
    if choice.text_tier is None:
        free = [tier for tier in filled if tier not in (*word_tiers, *label_tiers)]
        text_tiers = _called(free, _TEXT_TIERS) or (free if len(filled) == 1 else [])
    if not (word_tiers or text_tiers or label_tiers):
        raise bad(
            f"which of its tiers is the text cannot be told; {_listed(tiers)}: name it in clean.transcript.text_tier "
            "(or word_tier, label_tier)"
        )
    labels = [{**one, "text": None, "label": one["text"]} for one in _spans(label_tiers)]
    return make_transcript(cues=_spans(text_tiers), words=_spans(word_tiers), labels=labels)


def labels_choice(tiers: Sequence[Tier], choice: Choice) -> Transcript:
    """The labels of a file that is given for its labels: the chosen tier, or the only one that there is."""
    filled = [tier for tier in tiers if _spans([tier])]
    if choice.label_tier is None and len(filled) != 1:
        raise bad(
            f"which of its tiers is the labels cannot be told; {_listed(tiers)}: name it in clean.transcript.label_tier"
        )
    found = _spans(filled if choice.label_tier is None else _chosen(tiers, choice.label_tier))
    return make_transcript(labels=[{**one, "text": None, "label": one["text"]} for one in found])


def _chosen(tiers: Sequence[Tier], pattern: str | None) -> list[Tier]:
    if pattern is None:
        return []
    found = _called(tiers, (pattern.lower(),))
    if not found:
        raise bad(f"it has no tier {pattern!r}, which clean.transcript names; {_listed(tiers)}")
    for tier in found:
        if tier.useless:
            raise bad(f"tier {tier.name!r}, which clean.transcript names, {tier.useless}")
    return found


def _called(tiers: Sequence[Tier], patterns: Sequence[str], without: Sequence[Tier] = ()) -> list[Tier]:
    return [
        tier
        for tier in tiers
        if tier not in without and any(fnmatchcase(tier.name.strip().lower(), pattern) for pattern in patterns)
    ]


def _listed(tiers: Sequence[Tier]) -> str:
    return f"it has {', '.join(repr(tier.name) for tier in tiers)}" if tiers else "it has none"


def _spans(tiers: Sequence[Tier]) -> list[Span]:
    """By time, since neither the order of tiers nor, in ELAN, that of annotations means anything."""
    found = [
        span(start_s, end_s, text=text)
        for tier in tiers
        for start_s, end_s, content in tier.intervals
        if (text := spoken(content))
    ]
    return by_time(found)
