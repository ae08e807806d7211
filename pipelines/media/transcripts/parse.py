"""From the bytes of a transcript or annotation, by its suffix, to spans of the recording's timeline."""

from collections.abc import Callable
from dataclasses import replace

from features.reasons import MediaError, Reason
from pipelines.media.spans import Span
from pipelines.media.transcripts.elan import read_elan
from pipelines.media.transcripts.nist import parse_ctm, parse_rttm
from pipelines.media.transcripts.subtitles import parse_srt, parse_vtt
from pipelines.media.transcripts.tables import parse_csv, parse_tsv
from pipelines.media.transcripts.textgrid import read_textgrid
from pipelines.media.transcripts.tiers import choose_tiers, labels_choice
from pipelines.media.transcripts.transcript import Choice, Transcript, bad
from pipelines.media.transcripts.whisper import parse_whisper

_PARSERS: dict[str, Callable[[bytes, Choice], Transcript]] = {
    ".srt": parse_srt,
    ".vtt": parse_vtt,
    ".json": parse_whisper,
    ".ctm": parse_ctm,
    ".rttm": parse_rttm,
    ".csv": parse_csv,
    ".tsv": parse_tsv,
}
_TIERED = (".textgrid", ".eaf")
SUFFIXES = (*_PARSERS, *_TIERED)


def parse_transcript(content: bytes, suffix: str, choice: Choice | None = None) -> Transcript:
    """What a file says of the recording's timeline, by the format that its suffix names.

    Raises MediaError BAD_TRANSCRIPT, with the line, row or tier, if it is broken, of another format, or of another
    recording, or if what it holds would be read in part only.
    """
    kind, choice = suffix.lower(), choice or Choice()
    if kind in _PARSERS:
        return _PARSERS[kind](content, choice)
    if kind == ".textgrid":
        return choose_tiers(read_textgrid(content), choice)
    if kind == ".eaf":
        tiers, notices = read_elan(content)
        found = choose_tiers(tiers, choice)
        return replace(found, notices=[*notices, *found.notices])
    raise bad(f"a file that ends in {suffix!r} is no known transcript; known are {' '.join(SUFFIXES)}")


def parse_labels(content: bytes, suffix: str, choice: Choice | None = None) -> list[Span]:
    """The labelled intervals of a file that is given for these, in order of time.

    Raises MediaError BAD_LABELS, with the line, row or tier.
    """
    kind, choice = suffix.lower(), choice or Choice()
    try:
        if kind in _TIERED:
            tiers = read_textgrid(content) if kind == ".textgrid" else read_elan(content)[0]
            return labels_choice(tiers, choice).labels
        found = parse_transcript(content, suffix, choice)
    except MediaError as error:
        raise MediaError(Reason.BAD_LABELS, f"labels: {error}") from error
    if not found.labels and (found.cues or found.words):
        raise MediaError(Reason.BAD_LABELS, f"labels: a {suffix} file with transcript, but without labels")
    return found.labels
