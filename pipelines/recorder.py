"""A separate recorder: audio in a file of its own beside a video, on the clock of the video's sound."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.reasons import MediaError, Reason
from features.sample import MEDIA_SCHEMA
from features.shards import read_shard
from pipelines.media.audio import check_not_silent
from pipelines.media.clocks import ClockRelation, relate_clocks
from pipelines.media.container import AudioRequest, Source, decode_recording
from pipelines.media.spans import Notice
from pipelines.media.tracks import AudioTrack
from pipelines.params import CleanSyncParams

# What is kept of a relation: finer than it is known, and coarser than what processors round differently.
_OFFSET_DIGITS, _DRIFT_DIGITS, _CONFIDENCE_DIGITS = 4, 2, 2
_LONG_S = 120.0  # a stretch that is not confirmed: a recorder may have been stopped in it
_COLUMNS = ("audio_offset_s", "audio_drift_ppm", "audio_confidence")


def place_recorder(
    track: AudioTrack, open_video: Callable[[], Source], params: CleanSyncParams, *, silence_dbfs: float
) -> tuple[dict[str, Any], list[Notice]]:
    """The fields of MEDIA_SCHEMA that place a recorder's audio on the clock of its video, and what is odd about it.

    The reference is the first sound of the video; a video without one leaves the audio on its own clock.
    Raises MediaError UNSYNCHRONISED if the relation of the two is less sure than params.min_confidence.
    """
    try:
        reference = _decode_reference(open_video(), track.rate_hz, silence_dbfs)
    except MediaError as error:
        text = f"its audio file is taken to be on the clock of its video, whose sound is no reference: {error}"
        return {"audio_start_s": track.start_s}, [Notice(Reason.NO_REFERENCE, text)]
    bounds = {"max_offset_s": params.max_offset_s, "max_drift_ppm": params.max_drift_ppm}
    found = relate_clocks(reference.wave_T, track.wave_T, track.rate_hz, **bounds)
    offset_s = round(reference.start_s + found.offset_s, _OFFSET_DIGITS)
    place: dict[str, Any] = {
        "audio_start_s": offset_s,
        "audio_offset_s": offset_s,
        "audio_drift_ppm": None if found.drift_ppm is None else round(found.drift_ppm, _DRIFT_DIGITS),
        "audio_confidence": round(found.confidence, _CONFIDENCE_DIGITS),
    }
    if place["audio_confidence"] < params.min_confidence:
        raise MediaError(Reason.UNSYNCHRONISED, _why_unsynchronised(place, params))
    return place, _unconfirmed(found)


def _decode_reference(video: Source, rate_hz: int, silence_dbfs: float) -> AudioTrack:
    """The first sound of a video. Raises MediaError if there is none."""
    reference = decode_recording(video, audio=AudioRequest(rate_hz=rate_hz)).audio
    if reference is None:
        raise MediaError(Reason.NO_STREAM, "it has no audio")
    check_not_silent(reference.wave_T, silence_dbfs)
    return reference


def _why_unsynchronised(place: dict[str, Any], params: CleanSyncParams) -> str:
    drift = "" if place["audio_drift_ppm"] is None else f" and a drift of {place['audio_drift_ppm']:g} ppm"
    return (
        "its audio file does not fit the sound of its video: the best guess, an offset of "
        f"{place['audio_offset_s']:g} s{drift}, has a confidence of {place['audio_confidence']:g}, "
        f"clean.sync.min_confidence is {params.min_confidence:g}: check that both are of one event, raise "
        f"clean.sync.max_offset_s ({params.max_offset_s:g}) or max_drift_ppm ({params.max_drift_ppm:g}) if their "
        "clocks may differ more, or set clean.sync to null if the file is on the video's clock already"
    )


def _unconfirmed(found: ClockRelation) -> list[Notice]:
    start_s, end_s = found.unconfirmed_s
    if end_s - start_s < _LONG_S:
        return []
    text = (
        f"from {start_s:.0f} to {end_s:.0f} s of its audio file nothing confirms how that lies against its video: if "
        "the recorder was stopped in between, cut the file there"
    )
    return [Notice(Reason.UNSYNCHRONISED, text)]


def say_recorders(shards: Iterable[Path]) -> None:
    """Print how many separate recorders there are in the shards and how far their clocks lie off; nothing if none."""
    empty = pa.schema([MEDIA_SCHEMA.field(name) for name in _COLUMNS]).empty_table()
    table = pa.concat_tables([empty, *(read_shard(path, list(_COLUMNS)) for path in shards)])
    synchronised = table.filter(pc.is_valid(table["audio_confidence"]))
    if not synchronised.num_rows:
        return
    offset_s, drift_ppm = (pc.max(pc.abs(synchronised[name])).as_py() for name in _COLUMNS[:2])
    drift = "too short for a drift" if drift_ppm is None else f"drift up to {drift_ppm:g} ppm"
    confidence = pc.min(synchronised["audio_confidence"]).as_py()
    sys.stderr.write(
        f"clean: {synchronised.num_rows} separate recorders on the clocks of their videos: offset up to "
        f"{offset_s:g} s, {drift}, confidence {confidence:g} or more\n"
    )
