"""Coverage: how much of each recording became segments, by modality."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import ShardError, StageError
from features.shards import read_shard
from pipelines.job import Reject, ShardRecord
from pipelines.media.audio import true_rate_hz
from pipelines.media.segments import Interval
from pipelines.media.slicing import PCM_BYTES
from pipelines.media.unions import length_s, meet, merge
from pipelines.stage import load_rejects, load_stage

COVERAGE_FILE = "coverage.parquet"
TIMED = ("audio", "video", "text")  # an image has no time

# A row a recording and modality on its timeline; one without modality for what was lost before its length was known.
COVERAGE_SCHEMA = pa.schema(
    [
        pa.field("recording", pa.string(), nullable=False),
        pa.field("modality", pa.string()),
        pa.field(
            "there_s", pa.float64()
        ),  # of audio and video from their first to their last moment, of text what is said
        pa.field("segments_s", pa.float64(), nullable=False),  # of it in segments; what several have counts once
        pa.field("num_segments", pa.int64(), nullable=False),  # that have the modality
        pa.field("reason", pa.string()),  # why the recording as a whole was rejected
    ]
)

_TIMES = ["audio", "audio_rate_hz", "audio_start_s", "audio_drift_ppm", "frame_times_s", "frames_end_s", "text"]
_SPANS = ["words", "cues", "intervals"]  # the first of these that has texts tells when something is said


def measure_coverage(before: Path, folder: Path, records: Sequence[ShardRecord]) -> pa.Table:
    """COVERAGE_SCHEMA over the recordings of the stage before, in order of their keys.

    records: of the shards in the folder that align made of those before, each under the name of the one it was made of.
    Reads times and lengths, not the media.
    """
    cut = {record.shard.name: record for record in records}
    lost = {reject.key: reject for reject in load_rejects(before) if reject.dropped == "sample"}
    rows = [_unknown(reject) for reject in lost.values()]
    for shard in load_stage(before).shards:
        record = cut[shard.name]
        reasons = {reject.key: reject.reason for reject in record.rejects if reject.dropped == "sample"}
        segments = _by_recording(folder / record.shard.file)
        for key, there in _recordings(before / shard.file):
            rows += _measure(key, there, segments.get(key, []), reasons.get(key))
    rows.sort(key=lambda row: (row["recording"], row["modality"] or "", row["reason"] or ""))
    return pa.Table.from_pylist(rows, schema=COVERAGE_SCHEMA)


def read_coverage(path: Path) -> pa.Table:
    """What align measured. Raises StageError if there is no such file, ShardError if it is damaged."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise StageError(f"{path} does not exist: run 'dvc repro align', which measures it") from error
    except pa.ArrowInvalid as error:
        raise ShardError(
            f"{path} is no whole Parquet file ({error}): delete it and run 'dvc repro -f align'"
        ) from error
    return table


def summarise(table: pa.Table) -> dict[str, Any]:
    """The coverage as JSON: totals by modality, and every recording, the one of which the least became segments first.

    totals: of each modality the recordings that have it, its seconds there and in segments, and their share.
    recordings: key, share of all its modalities together, reason if it was rejected as a whole, and by modality the
    same numbers with num_segments; what was lost before its length was known has no modalities, and a share of 0.
    """
    recordings: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        found = recordings.setdefault(row["recording"], {"recording": row["recording"], "modalities": {}})
        found["reason"] = row["reason"]
        if row["modality"] is not None:
            numbers = {name: row[name] for name in ("there_s", "segments_s", "num_segments")}
            found["modalities"][row["modality"]] = {**numbers, "share": _share([row])}
    totals = {}
    for modality in TIMED:
        rows = [found["modalities"][modality] for found in recordings.values() if modality in found["modalities"]]
        sums = {name: sum(row[name] for row in rows) for name in ("there_s", "segments_s")}
        totals[modality] = {"recordings": len(rows), **sums, "share": _share(rows)}
    listed = [{**found, "share": _share(found["modalities"].values()) or 0.0} for found in recordings.values()]
    return {"totals": totals, "recordings": sorted(listed, key=lambda one: (one["share"], one["recording"]))}


def _share(rows: Iterable[dict[str, Any]]) -> float | None:
    rows = list(rows)
    there_s = sum(row["there_s"] for row in rows)
    return sum(row["segments_s"] for row in rows) / there_s if there_s else None


def _unknown(reject: Reject) -> dict[str, Any]:
    unknown = {"modality": None, "there_s": None}
    return {"recording": reject.key, **unknown, "segments_s": 0.0, "num_segments": 0, "reason": reject.reason}


def _measure(
    key: str, there: dict[str, list[Interval]], segments: list[dict[str, Interval]], reason: str | None
) -> Iterator[dict[str, Any]]:
    for modality, intervals in there.items():
        cut = [segment[modality] for segment in segments if modality in segment]
        whole = merge(intervals)
        if whole:
            yield {
                "recording": key,
                "modality": modality,
                "there_s": length_s(whole),
                "segments_s": length_s(meet(whole, merge(cut))),
                "num_segments": len(cut),
                "reason": reason,
            }


def _recordings(path: Path) -> Iterator[tuple[str, dict[str, list[Interval]]]]:
    """Key of each recording of a shard, and when each of its modalities is there."""
    for row in _rows(path, ["key", *_SPANS]):
        there = {name: [interval] for name, interval in _tracks(row).items()}
        said = ([one for one in row[name] or () if one["text"]] for name in _SPANS)
        spans = next((spans for spans in said if spans), None)
        if spans:
            there["text"] = [(one["start_s"], one["end_s"]) for one in spans]
        elif row["text"] and there:  # its text is that of the whole
            there["text"] = [interval for (interval,) in there.values()]
        yield row["key"], there


def _by_recording(path: Path) -> dict[str, list[dict[str, Interval]]]:
    """By recording the segments of a shard, each with the interval of the modalities that it has."""
    found: dict[str, list[dict[str, Interval]]] = {}
    for row in _rows(path, ["recording", "start_s", "end_s"]):
        if row["start_s"] is not None:
            # A frame may have been on screen before the cut; sound begins with it.
            segment = {name: (max(first, row["start_s"]), last) for name, (first, last) in _tracks(row).items()}
            if row["text"]:
                segment["text"] = (row["start_s"], row["end_s"])
            found.setdefault(row["recording"], []).append(segment)
    return found


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a shard with these columns and _TIMES, the length of the audio in place of its bytes."""
    table = read_shard(path, [*columns, *_TIMES])
    num_bytes = pc.binary_length(table["audio"])
    rows: list[dict[str, Any]] = table.set_column(table.column_names.index("audio"), "audio", num_bytes).to_pylist()
    return rows


def _tracks(row: dict[str, Any]) -> dict[str, Interval]:
    tracks: dict[str, Interval] = {}
    if row["audio"] is not None:
        start_s, duration_s = row["audio_start_s"], row["audio"] / PCM_BYTES / true_rate_hz(row)
        tracks["audio"] = start_s, start_s + duration_s
    if row["frame_times_s"] is not None:
        tracks["video"] = row["frame_times_s"][0], row["frames_end_s"]
    return tracks
