"""One segment of a recording: what each modality has in a stretch of time."""

from collections.abc import Sequence
from typing import Any

from features.sample import MediaRow, media_row
from pipelines.media.audio import slice_pcm16
from pipelines.media.frames import key_frame, slice_frames
from pipelines.media.segments import Interval, Segment
from pipelines.media.spans import Span
from pipelines.media.spoken import joined, quietest, widest_gap

PCM_BYTES = 2


def media_tracks(row: MediaRow) -> dict[str, Interval]:
    """The interval that each modality on the recording's timeline covers; empty for a sample without one."""
    tracks: dict[str, Interval] = {}
    if row["audio"] is not None:
        duration_s = len(row["audio"]) / PCM_BYTES / row["audio_rate_hz"]
        tracks["audio"] = row["audio_start_s"], row["audio_start_s"] + duration_s
    if row["frames"] is not None:
        tracks["video"] = row["frame_times_s"][0], row["frames_end_s"]
    return tracks


def cut_segment(row: MediaRow, segment: Segment, span: Span, text: str | None) -> MediaRow:
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
        label=span["label"] or label_of(row["labels"], *segment.core) or row["label"],
        start_s=start_s,
        end_s=end_s,
        variant=0,
        text=text,
        image=row["image"] or (key_image(row, start_s, end_s) if frames else None),
        words=words_of(row["words"], *segment.core),
        source_digest=row["source_digest"],
        meta=span["meta"] or row["meta"],
        **_cut_audio(row, start_s, end_s),
        **frames,
    )


def _cut_audio(row: MediaRow, start_s: float, end_s: float) -> dict[str, Any]:
    if row["audio"] is None:
        return {}
    audio = slice_pcm16(row["audio"], row["audio_rate_hz"], row["audio_start_s"], start_s, end_s)
    if audio is None:
        return {}
    begins_s = max(start_s, row["audio_start_s"])
    return {"audio": audio, "audio_rate_hz": row["audio_rate_hz"], "audio_start_s": begins_s}


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


def keep_whole(row: MediaRow, extent: Interval | None, text: str | None) -> MediaRow:
    """The sample as it is, with its own extent as interval where it has a timeline."""
    whole = {**row, "text": text, "intervals": None, "cues": None, "labels": None}
    if extent is not None:
        whole["start_s"], whole["end_s"] = round(extent[0], 3), round(extent[1], 3)
        whole["words"] = words_of(row["words"], whole["start_s"], whole["end_s"])
        whole["label"] = row["label"] or label_of(row["labels"], *extent)
        if row["image"] is None and row["frames"] is not None:
            whole["image"] = key_image(row, *extent)
    return whole


def text_in(row: MediaRow, segment: Segment, span: Span, *, is_own: bool) -> str | None:
    """The text of a segment: its span's own, or else what is said in it.

    Of a span that was divided its own text is divided by the words, and absent where their times are not known. What
    is said is the words or, without them, the text of the cues in it; a recording that has neither gives each segment
    its text as a whole, as its image and its label. is_own: the span's text is all there is, also where it has none.
    """
    spoken = joined(words_of(row["words"], *segment.core) or ()) or None
    if segment.is_part and span["text"]:
        return spoken
    if span["text"] or is_own:
        return str(span["text"]) if span["text"] else None
    if row["words"] is not None or row["cues"]:
        return spoken if row["words"] is not None else text_of(row["cues"], *segment.core)
    return row["text"]


def label_of(labels: Sequence[Span] | None, start_s: float, end_s: float) -> str | None:
    """The label whose interval overlaps the segment the longest; the earlier one of two; None if none does."""
    overlaps = [(min(end_s, span["end_s"]) - max(start_s, span["start_s"]), span["label"]) for span in labels or ()]
    best_s, label = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
    return label if best_s > 0 else None


def text_of(cues: Sequence[Span] | None, start_s: float, end_s: float) -> str | None:
    """The text of the cues whose middle lies in the segment, in order; None if there is none."""
    return joined([cue for cue in cues or () if _has_middle(cue, start_s, end_s)]) or None


def words_of(words: Sequence[Span] | None, start_s: float, end_s: float) -> list[Span] | None:
    """The words whose middle lies in the segment, in order, cut off at its edges; None if their times are not known."""
    if words is None:
        return None
    return [
        {**word, "start_s": max(word["start_s"], start_s), "end_s": min(word["end_s"], end_s)}
        for word in words
        if _has_middle(word, start_s, end_s)
    ]


def _has_middle(span: Span, start_s: float, end_s: float) -> bool:
    return bool(start_s <= (span["start_s"] + span["end_s"]) / 2 < end_s)


def choose_cut(row: MediaRow, low_s: float, high_s: float, ideal_s: float) -> float:
    """Where a segment that is too long is best cut: in the widest gap between words, or where their times are not known
    at the quietest moment; else at the ideal place."""
    chosen: float | None = None
    if row["words"]:
        chosen = widest_gap(row["words"], low_s, high_s, ideal_s)
    if chosen is None and row["audio"] is not None:
        pcm, rate_hz, begins_s = row["audio"], row["audio_rate_hz"], row["audio_start_s"]
        chosen = quietest(pcm, rate_hz, begins_s, low_s=low_s, high_s=high_s, ideal_s=ideal_s)
    return ideal_s if chosen is None else chosen
