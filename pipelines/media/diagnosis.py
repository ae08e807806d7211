"""What is odd about a recording's timeline: said with its numbers, never mended."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import median

from features.reasons import Reason
from features.sample import MediaRow
from pipelines.media.sound_fit import fit_to_sound
from pipelines.media.spans import Notice, Span

# Units that times are mistaken for seconds in, by how many of them are a second.
_UNITS: Mapping[str, Sequence[float]] = {
    "milliseconds": (1e3,),
    "microseconds": (1e6,),
    "ticks of 100 ns": (1e7,),
    "nanoseconds": (1e9,),
    "hundredths of a second": (1e2,),
    "ticks of 90 kHz": (9e4,),
    "frames": (23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0),
    "samples": (8000.0, 11025.0, 16000.0, 22050.0, 24000.0, 32000.0, 44100.0, 48000.0, 96000.0),
}
_LONG_UNITS: Mapping[str, Sequence[float]] = {"minutes": (1 / 60,), "hours": (1 / 3600,), "days": (1 / 86400,)}
_BLINK_S = 0.1  # nothing that is said or labelled is mostly shorter; of words many are
_FITS = (0.5, 1.02)  # where in the recording the last interval ends, for a unit to be a likely one
_FAR = 1.2  # an interval that ends beyond this multiple of the recording is of a longer one
_ALIKE, _ALIKE_S = 0.8, 1.0  # tracks whose lengths differ by less, as a share or in seconds, are cut a little apart


def diagnose(row: MediaRow, tracks: Mapping[str, tuple[float, float]]) -> list[Notice]:
    """Notices about a recording that is to be cut: streams of different length, intervals that do not fit its length,
    cues that overlap or do not fit its sound. tracks: by modality, where it begins and ends, in seconds."""
    notices = _compare_lengths(tracks)
    last_s = max((end_s for _, end_s in tracks.values()), default=0.0)
    said = "cues" if row["cues"] else "words"
    for kind in ("intervals", said, "labels"):
        if row[kind] and last_s > 0:
            notices += _fit_to_length(kind, row[kind], last_s)
    notices += _overlaps(row["cues"] or ())
    misfits = any(notice.reason in (Reason.WRONG_UNIT, Reason.OTHER_RECORDING) for notice in notices)
    if row[said] and row["audio"] is not None and not misfits:
        notices += fit_to_sound(said, row[said], row["audio"], row["audio_rate_hz"], row["audio_start_s"])
    return notices


def _compare_lengths(tracks: Mapping[str, tuple[float, float]]) -> list[Notice]:
    lengths_s = {modality: end_s - start_s for modality, (start_s, end_s) in tracks.items()}
    if len(lengths_s) < 2:
        return []
    (short, short_s), *_, (long, long_s) = sorted(lengths_s.items(), key=lambda pair: pair[1])
    if short_s >= _ALIKE * long_s or long_s - short_s < _ALIKE_S:
        return []
    text = f"its {short} has {short_s:.1f} s, its {long} {long_s:.1f} s: are they of the same recording, and whole?"
    return [Notice(Reason.LENGTH_MISMATCH, text)]


def _fit_to_length(kind: str, spans: Sequence[Span], last_s: float) -> list[Notice]:
    """A notice if intervals begin beyond the recording's end: most of them where times are in another unit, some where
    they are of a longer recording; or if they are blinks at its beginning. One that merely ends beyond is shortened by
    the cut, with a reject of its own."""
    beyond = sum(span["start_s"] >= last_s for span in spans)
    end_s = max(span["end_s"] for span in spans)
    if not beyond:
        return _blinks(kind, spans, end_s, last_s)
    if end_s <= _FAR * last_s:
        return []
    begin = f"{beyond} of {len(spans)} {kind} begin beyond the recording's end at {last_s:.1f} s, the last ends at "
    likely = _likely(_UNITS, end_s, last_s)
    if 2 * beyond > len(spans) and likely:
        text = f"{begin}{end_s:.0f}: as {likely} it would fit; write times in seconds (they are taken as they stand)"
        return [Notice(Reason.WRONG_UNIT, text)]
    text = f"{begin}{end_s:.1f} s: they are of a longer recording, or this one is cut short (nothing is moved)"
    return [Notice(Reason.OTHER_RECORDING, text)]


def _blinks(kind: str, spans: Sequence[Span], end_s: float, last_s: float) -> list[Notice]:
    length_s, likely = median(span["end_s"] - span["start_s"] for span in spans), _likely(_LONG_UNITS, end_s, last_s)
    if kind == "words" or length_s >= _BLINK_S or not likely:
        return []
    text = (
        f"the last of its {len(spans)} {kind} ends at {end_s:g} of {last_s:.1f} s, and half of them are no longer than "
        f"{length_s:.2g} s: as {likely} it would fit; write times in seconds (they are taken as they stand)"
    )
    return [Notice(Reason.WRONG_UNIT, text)]


def _likely(units: Mapping[str, Sequence[float]], end_s: float, last_s: float) -> str:
    """The units in which the last interval ends in the recording's second half, as words."""
    low, high = _FITS
    found = []
    for unit, rates in units.items():
        fitting = [f"{per_s:g}" for per_s in rates if low * last_s <= end_s / per_s <= high * last_s]
        if fitting:
            found.append(unit if len(rates) == 1 else f"{unit} ({' or '.join(fitting)} a second)")
    return " or ".join(found)


def _overlaps(cues: Sequence[Span]) -> list[Notice]:
    ends_s = accumulate((cue["end_s"] for cue in cues), max)
    late = [cue for cue, end_s in zip(cues[1:], ends_s, strict=False) if cue["start_s"] < end_s]
    if not late:
        return []
    text = (
        f"{len(late)} of {len(cues)} cues begin while an earlier one is on, first at {late[0]['start_s']:g} s: each is "
    )
    return [Notice(Reason.OVERLAP, f"{text}a segment of its own")]
