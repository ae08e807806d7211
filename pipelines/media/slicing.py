"""One segment of a recording: what each modality has in a stretch of time."""

from typing import Any

from features.sample import MediaRow, media_row
from pipelines.media.audio import slice_pcm16, true_rate_hz
from pipelines.media.frames import key_frame, slice_frames
from pipelines.media.said import Said
from pipelines.media.segments import Interval, Segment
from pipelines.media.spans import Span
from pipelines.media.spoken import quietest

PCM_BYTES = 2


def media_tracks(row: MediaRow) -> dict[str, Interval]:
    """The interval that each modality on the recording's timeline covers; empty for a sample without one."""
    tracks: dict[str, Interval] = {}
    if row["audio"] is not None:
        duration_s = len(row["audio"]) / PCM_BYTES / true_rate_hz(row)
        tracks["audio"] = row["audio_start_s"], row["audio_start_s"] + duration_s
    if row["frames"] is not None:
        tracks["video"] = row["frame_times_s"][0], row["frames_end_s"]
    return tracks


def cut_segment(row: MediaRow, said: Said, segment: Segment, span: Span, text: str | None) -> MediaRow:
    """One segment of a recording; times stay those of the recording. A modality that covers none of it is absent.

    span: what is known of it besides, its label and meta.
    """
    start_s, end_s = segment.start_s, segment.end_s
    frames = _cut_frames(row, start_s, end_s)
    return media_row(
        key=segment.key,
        recording=row["key"],
        group=row["group"],
        split=row["split"],
        label=span["label"] or said.label_in(segment.core) or row["label"],
        start_s=start_s,
        end_s=end_s,
        variant=0,
        text=text,
        image=row["image"] or (key_image(row, start_s, end_s) if frames else None),
        words=said.words_in(segment.core),
        source_digest=row["source_digest"],
        meta=span["meta"] or row["meta"],
        **_cut_audio(row, start_s, end_s),
        **frames,
    )


def _cut_audio(row: MediaRow, start_s: float, end_s: float) -> dict[str, Any]:
    if row["audio"] is None:
        return {}
    audio = slice_pcm16(row["audio"], true_rate_hz(row), row["audio_start_s"], start_s, end_s)
    if audio is None:
        return {}
    begins_s = max(start_s, row["audio_start_s"])
    kept = {name: row[name] for name in ("audio_rate_hz", "audio_offset_s", "audio_drift_ppm", "audio_confidence")}
    return {"audio": audio, "audio_start_s": begins_s, **kept}


def _cut_frames(row: MediaRow, start_s: float, end_s: float) -> dict[str, Any]:
    if row["frames"] is None:
        return {}
    shown = slice_frames(row["frame_times_s"], row["frames_end_s"], start_s, end_s)
    if not shown:
        return {}
    return {
        "frames": [row["frames"][index] for index in shown],
        "frame_times_s": [row["frame_times_s"][index] for index in shown],
        "frames_end_s": min(row["frames_end_s"], end_s),
    }


def key_image(row: MediaRow, start_s: float, end_s: float) -> bytes | None:
    """The frame that stands for a stretch of the recording, as its image."""
    index = key_frame(row["frame_times_s"], row["frames_end_s"], start_s, end_s)
    return None if index is None else row["frames"][index]


def keep_whole(row: MediaRow, said: Said, extent: Interval | None, text: str | None) -> MediaRow:
    """The sample as it is, with its own extent as interval where it has a timeline."""
    whole = {**row, "text": text, "intervals": None, "cues": None, "labels": None}
    if extent is not None:
        whole["start_s"], whole["end_s"] = round(extent[0], 3), round(extent[1], 3)
        whole["words"] = said.words_in((whole["start_s"], whole["end_s"]))
        whole["label"] = row["label"] or said.label_in(extent)
        if row["image"] is None and row["frames"] is not None:
            whole["image"] = key_image(row, *extent)
    return whole


def choose_cut(row: MediaRow, said: Said, low_s: float, high_s: float, ideal_s: float) -> float:
    """Where a segment that is too long is best cut: in the widest gap between words, or where their times are not known
    at the quietest moment; else at the ideal place."""
    chosen = said.gaps.widest(low_s, high_s, ideal_s) if row["words"] else None
    if chosen is None and row["audio"] is not None:
        pcm, rate_hz, begins_s = row["audio"], true_rate_hz(row), row["audio_start_s"]
        chosen = quietest(pcm, rate_hz, begins_s, low_s=low_s, high_s=high_s, ideal_s=ideal_s)
    return ideal_s if chosen is None else chosen
