"""Align: cut recordings into segments whose text, audio, frames and image share one clock."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from features.reasons import Reason
from features.rev import library_versions
from features.sample import MEDIA_SCHEMA, MediaRow, media_row
from pipelines.code import stage_code
from pipelines.digests import sample_digests
from pipelines.job import Reject
from pipelines.media.audio import slice_pcm16
from pipelines.media.frames import key_frame, slice_frames
from pipelines.params import AlignParams, BeamParams
from pipelines.stage import Outcome, read_rows, run_stage, tasks_per_shard

_PCM_BYTES = 2
_ANY_TIME = (-math.inf, math.inf)


def align(params: AlignParams, before: Path, folder: Path, beam: BeamParams) -> None:
    """Cut the recordings in the folder before into segments in folder, one shard of segments a shard of recordings."""
    settings = align_settings(params)
    run_stage(
        "align",
        Align(params),
        lambda manifest: tasks_per_shard(manifest, before, folder, settings),
        before=before,
        folder=folder,
        settings=settings,
        max_reject_ratio=params.max_reject_ratio,
        beam=beam,
    )


def align_settings(params: AlignParams) -> dict[str, Any]:
    """All that decides what a shard of recordings becomes besides its content."""
    return {
        **params.model_dump(exclude={"max_reject_ratio"}),
        "code": stage_code(__name__),
        "libraries": library_versions(["numpy", "pyarrow"]),
    }


@dataclass(frozen=True)
class Align:
    """Cuts one recording: by the manifest's intervals, else by its transcript's cues, else by its labelled intervals;
    a sample with none of these passes through whole. Without audio and video only the manifest's intervals cut."""

    params: AlignParams
    schema: ClassVar[pa.Schema] = MEDIA_SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return read_rows(inputs.check())

    def __call__(self, row: MediaRow) -> Outcome:
        extent = media_extent(row)
        spans = row["intervals"] or row["cues"] or row["labels"]
        if not spans or (extent is None and not row["intervals"]):
            return [_whole(row, extent)], _without_timeline(row, spans)
        rows: list[MediaRow] = []
        rejects: list[Reject] = _text_beside_cues(row)
        for index, span in enumerate(spans):
            key = span["key"] or f"{row['key']}/{index:04d}"
            bounds = clip_span(key, span, extent or _ANY_TIME, self.params.min_s)
            if isinstance(bounds, Reject):
                rejects.append(bounds)
                continue
            start_s, end_s, clipped = bounds
            rejects += clipped
            rows.append(cut_segment(row, key, span, start_s, end_s))
        if not rows:
            first = next(reject for reject in rejects if reject.dropped == "sample")
            text = f"none of its {len(spans)} segments could be cut; first: {first.text}"
            rejects.append(Reject(row["key"], "align", first.reason, "sample", text))
        return rows, rejects


def _without_timeline(row: MediaRow, spans: Sequence[dict[str, Any]] | None) -> list[Reject]:
    if not spans:
        return []
    text = f"{len(spans)} segments are not cut, since it has no audio and no video: it stays whole"
    return [Reject(row["key"], "align", Reason.OUTSIDE_MEDIA, "part", text)]


def _text_beside_cues(row: MediaRow) -> list[Reject]:
    if not (row["cues"] and row["text"]):
        return []
    text = "its text is a second one beside its transcript, whose cues are kept"
    return [Reject(row["key"], "align", Reason.DUPLICATE, "part", text)]


def media_extent(row: MediaRow) -> tuple[float, float] | None:
    """First and last second of the recording that audio or video covers; None without a timeline."""
    spans = []
    if row["audio"] is not None:
        duration_s = len(row["audio"]) / _PCM_BYTES / row["audio_rate_hz"]
        spans.append((row["audio_start_s"], row["audio_start_s"] + duration_s))
    if row["frames"] is not None:
        spans.append((row["frame_times_s"][0], row["frames_end_s"]))
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def clip_span(
    key: str, span: dict[str, Any], extent: tuple[float, float], min_s: float
) -> tuple[float, float, list[Reject]] | Reject:
    """The span within the recording, to the millisecond, with a reject for the part that was cut off.

    A span that ends before it starts, lies outside of the recording or is shorter than min_s is a reject itself.
    """
    start_s, end_s = round(span["start_s"], 3), round(span["end_s"], 3)
    first_s, last_s = round(extent[0], 3), round(extent[1], 3)
    if end_s <= start_s:
        text = f"segment {start_s} to {end_s} s ends before it starts: mend its transcript or labels"
        return Reject(key, "align", Reason.BAD_INTERVAL, "sample", text)
    if start_s >= last_s or end_s <= first_s:
        text = f"segment {start_s} to {end_s} s lies outside of the recording, which covers {first_s} to {last_s} s"
        return Reject(key, "align", Reason.OUTSIDE_MEDIA, "sample", text)
    kept_start_s, kept_end_s = max(start_s, first_s), min(end_s, last_s)
    if kept_end_s - kept_start_s < min_s:
        text = f"segment {start_s} to {end_s} s has {kept_end_s - kept_start_s:.3f} s of media, align.min_s is {min_s}"
        return Reject(key, "align", Reason.TOO_SHORT, "sample", text)
    clipped = []
    if (kept_start_s, kept_end_s) != (start_s, end_s):
        text = f"segment {start_s} to {end_s} s shortened to {kept_start_s} to {kept_end_s} s, where the recording ends"
        clipped = [Reject(key, "align", Reason.CLIPPED, "part", text)]
    return kept_start_s, kept_end_s, clipped


def cut_segment(row: MediaRow, key: str, span: dict[str, Any], start_s: float, end_s: float) -> MediaRow:
    """One segment of a recording; times stay those of the recording. A modality that covers none of it is absent."""
    audio, audio_start_s = None, None
    if row["audio"] is not None:
        audio = slice_pcm16(row["audio"], row["audio_rate_hz"], row["audio_start_s"], start_s, end_s)
        audio_start_s = max(start_s, row["audio_start_s"]) if audio else None
    frames, times_s, frames_end_s, image = None, None, None, row["image"]
    if row["frames"] is not None:
        shown = slice_frames(row["frame_times_s"], row["frames_end_s"], start_s, end_s)
        if len(shown):
            frames = [row["frames"][index] for index in shown]
            times_s = [row["frame_times_s"][index] for index in shown]
            frames_end_s = min(row["frames_end_s"], end_s)
        image = image or _key_image(row, start_s, end_s)
    segment = media_row(
        key=key,
        recording=row["key"],
        group=row["group"],
        split=row["split"],
        label=span["label"] or label_of(row["labels"], start_s, end_s) or row["label"],
        start_s=start_s,
        end_s=end_s,
        variant=0,
        text=span["text"] or text_of(row["cues"] if span["key"] else None, start_s, end_s) or _text_of_all(row),
        image=image,
        audio=audio,
        audio_rate_hz=row["audio_rate_hz"] if audio is not None else None,
        audio_start_s=audio_start_s,
        frames=frames,
        frame_times_s=times_s,
        frames_end_s=frames_end_s,
        words=words_of(row["words"], start_s, end_s),
        source_digest=row["source_digest"],
        meta=span["meta"] or row["meta"],
    )
    return {**segment, "digests": sample_digests(segment)}


def _text_of_all(row: MediaRow) -> str | None:
    """The text of a recording as a whole, for each of its segments, as its image and label are; a transcript's cues
    stand instead of it."""
    text: str | None = None if row["cues"] else row["text"]
    return text


def label_of(labels: Sequence[dict[str, Any]] | None, start_s: float, end_s: float) -> str | None:
    """The label whose interval overlaps the segment the longest; the earlier one of two; None if none does."""
    overlaps = [(min(end_s, span["end_s"]) - max(start_s, span["start_s"]), span["label"]) for span in labels or ()]
    best_s, label = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
    return label if best_s > 0 else None


def text_of(cues: Sequence[dict[str, Any]] | None, start_s: float, end_s: float) -> str | None:
    """The text of the cues whose middle lies in the segment, in order; None if there is none."""
    spoken = [cue["text"] for cue in cues or () if start_s <= (cue["start_s"] + cue["end_s"]) / 2 < end_s]
    return " ".join(text for text in spoken if text) or None


def words_of(words: Sequence[dict[str, Any]] | None, start_s: float, end_s: float) -> list[dict[str, Any]] | None:
    """The words whose middle lies in the segment, in order, cut off at its edges; None if their times are not known."""
    if words is None:
        return None
    return [
        {**word, "start_s": max(word["start_s"], start_s), "end_s": min(word["end_s"], end_s)}
        for word in words
        if start_s <= (word["start_s"] + word["end_s"]) / 2 < end_s
    ]


def _key_image(row: MediaRow, start_s: float, end_s: float) -> bytes | None:
    index = key_frame(row["frame_times_s"], row["frames_end_s"], start_s, end_s)
    return None if index is None else row["frames"][index]


def _whole(row: MediaRow, extent: tuple[float, float] | None) -> MediaRow:
    """The sample as it is, with its own extent as interval where it has a timeline."""
    whole = {**row, "intervals": None, "cues": None, "labels": None}
    if extent is not None:
        whole["start_s"], whole["end_s"] = round(extent[0], 3), round(extent[1], 3)
        whole["words"] = words_of(row["words"], whole["start_s"], whole["end_s"])
        whole["label"] = row["label"] or label_of(row["labels"], *extent)
        if row["image"] is None and row["frames"] is not None:
            whole["image"] = _key_image(row, *extent)
    return {**whole, "digests": sample_digests(whole)}
