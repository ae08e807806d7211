"""Clean: decode every file once, make each modality uniform, and keep time where it is."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from features.errors import StageError
from features.reasons import MediaError, Reason
from features.rev import digest_json, library_versions
from features.sample import MEDIA_SCHEMA, MODALITIES, MediaRow, media_row, modality_field
from features.shards import cut_shards, shard_file, shard_name
from pipelines.code import stage_code
from pipelines.ingest import load_recordings
from pipelines.job import Reject, ShardTask, run_job
from pipelines.leaks import describe_leaks, find_leaks
from pipelines.lock import writing
from pipelines.media.audio import check_not_silent, normalise_loudness, to_pcm16
from pipelines.media.container import AudioRequest, VideoRequest, decode_recording, decode_what_there_is
from pipelines.media.image import clean_image
from pipelines.media.spans import Notice, Span
from pipelines.media.text import clean_text
from pipelines.media.tracks import AudioTrack
from pipelines.media.transcripts.parse import parse_labels, parse_transcript
from pipelines.media.transcripts.transcript import Choice
from pipelines.params import BeamParams, CleanParams
from pipelines.raw import FILE_COLUMNS, content_digest, open_file, read_file, source_digest
from pipelines.recorder import place_recorder, say_recorders
from pipelines.reuse import read_made, with_made
from pipelines.stage import Outcome, ShardStep, check_ratio, known_records, publish_stage, say_outcome

_LIBRARIES = ["av", "ftfy", "numpy", "opencv-python-headless", "pillow", "praatio", "pyarrow", "pympi-ling"]
_LIBRARIES += ["scipy", "srt", "torchaudio", "webvtt-py"]
_IDENTITY = ("key", "recording", "group", "split", "label", "start_s", "end_s", "variant", "source_digest", "meta")
# What is made of a recording's raw content, and of nothing else that is known of it.
_MEDIA_FIELDS = tuple(name for name in MEDIA_SCHEMA.names if name not in (*_IDENTITY, "intervals", "digests"))


def clean(params: CleanParams, before: Path, folder: Path, beam: BeamParams) -> None:
    """Clean the recordings that ingest listed in the folder before; one shard of folder holds about
    params.shard_samples of them.

    Exact copies are found by the digests that ingest took, across all shards, and rejected before any is decoded. In a
    shard that changed only the recordings are decoded whose raw content is new: the media of others are taken from
    the version before.
    """
    settings, rows = clean_settings(params), load_recordings(before)
    with writing(folder):
        known = known_records(folder)
        tasks = with_made(clean_tasks(rows, params, folder), known, folder, settings)
        records = run_job(ShardStep(Clean(params, str(Path.cwd()))), tasks, known=known, params=beam, label="clean")
        rejects = [reject for record in records for reject in record.rejects]
        num_samples = sum(len(sample_keys(row)) for row in rows)
        check_ratio("clean", rejects, num_samples, params.max_reject_ratio)
        publish_stage(folder, stage="clean", settings=settings, records=records, before=before)
    if leaks := find_leaks(row for task in tasks for row in task.inputs if not row["copy_of"]):
        sys.stderr.write(describe_leaks(leaks) + "\n")
    say_recorders(folder / record.shard.file for record in records)
    say_outcome("clean", num_in=len(rows), num_out=sum(record.shard.num_rows for record in records), rejects=rejects)


def clean_settings(params: CleanParams) -> dict[str, Any]:
    """All that decides what a recording becomes besides its content."""
    return {
        **params.model_dump(exclude={"max_reject_ratio", "shard_samples"}),
        "code": stage_code(__name__),
        "libraries": library_versions(_LIBRARIES),
    }


def clean_tasks(rows: Sequence[dict[str, Any]], params: CleanParams, folder: Path) -> list[ShardTask]:
    """The shards of the recordings; a row says what it is a copy of, if it is one."""
    settings, copies = clean_settings(params), find_copies(rows)
    work = [
        {**row, "copy_of": copies.get(row["key"]), "source_digest": source_digest(row), "made": None} for row in rows
    ]
    tasks = []
    for span in cut_shards([row["key"] for row in rows], params.shard_samples):
        chunk = work[span.start : span.stop]
        name = shard_name(chunk[0]["key"])
        fingerprint = digest_json([settings, [_without_places(row) for row in chunk]])
        file = shard_file(name, fingerprint)
        tasks.append(ShardTask(name, str(folder.resolve()), file, fingerprint, len(chunk), chunk))
    return tasks


def _without_places(row: dict[str, Any]) -> dict[str, Any]:
    """What the outcome of a recording depends on: of its files the content, wherever they lie."""
    return {name: value for name, value in row.items() if name not in (*FILE_COLUMNS, "made")}


def find_copies(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Key of each recording whose content an earlier one (by key) has, and the key of that one."""
    first: dict[str, str] = {}
    copies = {}
    for row in rows:
        original = first.setdefault(content_digest(row), row["key"])
        if original != row["key"]:
            copies[row["key"]] = original
    return copies


def sample_keys(row: dict[str, Any]) -> list[str]:
    """Keys of the samples that a recording is to become as far as its source names them: its intervals', or its own."""
    return [span["key"] for span in row["intervals"] or () if span["key"]] or [row["key"]]


@dataclass(frozen=True)
class Clean:
    """Cleans one recording. A modality that cannot be used is rejected with its reason and the rest goes on; a
    recording whose timeline is lost, or that has nothing left, is rejected whole."""

    params: CleanParams
    base: str
    schema: ClassVar[pa.Schema] = MEDIA_SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return list(inputs)

    def __call__(self, row: dict[str, Any]) -> Outcome:
        if row["copy_of"]:
            text = f"the same content as {row['copy_of']!r}, which is kept"
            return [], _whole_rejects(row, Reason.DUPLICATE, text)
        named = {name: row[name] for name in ("key", "group", "split", "label", "meta", "intervals")}
        cleaned = media_row(**named, recording=row["key"], variant=0, source_digest=row["source_digest"])
        if row["made"]:
            cleaned |= read_made(row["made"], _MEDIA_FIELDS)
            rejects = []
        else:
            rejects = self._make_media(_Work(row, cleaned))
        rejects += self._clean_intervals(cleaned)
        if all(cleaned[modality_field(modality)] is None for modality in MODALITIES):
            reason, text = Reason.NO_STREAM, "its files hold no text, image, audio or video"
            if rejects:  # the first of what befell its parts
                reason, text = Reason(rejects[0].reason), rejects[0].text
            return [], _whole_rejects(row, reason, text)
        return [cleaned], rejects

    def _make_media(self, work: "_Work") -> list[Reject]:
        """Fill the media fields from the raw content, and say what of it cannot be used."""
        lost = [
            Reject(work.row["key"], "clean", error.reason, dropped, str(error))
            for dropped, fill in (
                ("text", self._fill_text),
                ("image", self._fill_image),
                ("video", self._fill_video),
                ("audio", self._fill_audio),
                ("text", self._fill_transcript),
                ("part", self._fill_labels),
            )
            if (error := _attempt(fill, work))
        ]
        odd = [Reject(work.row["key"], "clean", one.reason, one.dropped, one.text) for one in work.notices]
        return lost + odd

    def _fill_text(self, work: "_Work") -> None:
        if work.row["text"] is not None:
            work.cleaned["text"] = clean_text(work.row["text"], max_chars=self.params.text.max_chars)

    def _fill_image(self, work: "_Work") -> None:
        if work.row["image"] is not None:
            encoded = read_file(work.row["image"], self.base)
            work.cleaned["image"] = clean_image(encoded, size_px=self.params.image.size_px)

    def _fill_video(self, work: "_Work") -> None:
        """Frames, and unless the row has files of their own for them, audio and transcript, all in one pass."""
        row, cleaned = work.row, work.cleaned
        if row["video"] is None:
            return
        decoded, missing = decode_what_there_is(
            lambda: open_file(row["video"], self.base),
            audio=self._audio_request() if row["audio"] is None else None,
            video=VideoRequest(**self.params.video.model_dump()),
            subtitle_stream=self.params.transcript.stream if row["transcript"] is None else None,
        )
        if decoded.video is not None:
            cleaned["frames"] = decoded.video.frames
            cleaned["frame_times_s"] = decoded.video.times_s
            cleaned["frames_end_s"] = decoded.video.end_s
        cleaned["cues"] = decoded.cues
        work.notices += [
            Notice(one.reason, str(one), "text" if one.kind == "subtitle" else one.kind) for one in missing
        ]
        work.track = decoded.audio

    def _fill_audio(self, work: "_Work") -> None:
        if work.row["audio"] is not None:
            work.track = decode_recording(open_file(work.row["audio"], self.base), audio=self._audio_request()).audio
        track, params = work.track, self.params.audio
        if track is not None:
            check_not_silent(track.wave_T, params.silence_dbfs)
            place = self._place_audio(work, track)
            wave_T = normalise_loudness(track.wave_T, track.rate_hz, target_lufs=params.loudness_lufs)
            work.cleaned["audio"], work.cleaned["audio_rate_hz"] = to_pcm16(wave_T), track.rate_hz
            work.cleaned |= place

    def _place_audio(self, work: "_Work", track: AudioTrack) -> dict[str, Any]:
        """When the audio begins and, of a separate recorder, how its clock relates to the video's."""
        row, sync = work.row, self.params.sync
        if row["audio"] is None or row["video"] is None or sync is None:
            return {"audio_start_s": track.start_s}
        place, notices = place_recorder(
            track,
            lambda: open_file(row["video"], self.base),
            sync,
            silence_dbfs=self.params.audio.silence_dbfs,
        )
        work.notices += notices
        return place

    def _audio_request(self) -> AudioRequest:
        return AudioRequest(stream=self.params.audio.stream, rate_hz=self.params.audio.rate_hz)

    def _fill_transcript(self, work: "_Work") -> None:
        """Cues, words and labels of the transcript file, or else the cues that came with the video."""
        cues, words, file = work.cleaned["cues"], None, work.row["transcript"]
        if file is not None:
            found = parse_transcript(read_file(file, self.base), file["suffix"], self._choice(work))
            cues, words = found.cues, self._clean_spans(found.words)
            work.cleaned["labels"] = found.labels or None
            work.notices += found.notices
        work.cleaned["cues"] = self._clean_spans(cues) or None
        work.cleaned["words"] = [word for word in words or () if word["text"]] or None

    def _choice(self, work: "_Work") -> Choice:
        tiers = self.params.transcript.model_dump(exclude={"stream"})
        return Choice(recording=work.row["key"], **tiers)

    def _clean_spans(self, spans: Sequence[Span] | None) -> list[Span]:
        return [{**span, "text": self._cue_text(span["text"])} for span in spans or ()]

    def _cue_text(self, text: str | None) -> str | None:
        """A cue's cleaned text; None for one of which nothing is left: its segment then has no text."""
        try:
            return clean_text(text or "", max_chars=self.params.text.max_chars)
        except MediaError as error:
            if error.reason == Reason.EMPTY:
                return None
            raise

    def _clean_intervals(self, cleaned: MediaRow) -> list[Reject]:
        """Clean the texts that the manifest gives its intervals, and say which of them cannot be used."""
        spans, rejects = [], []
        for span in cleaned["intervals"] or ():
            text = None
            try:
                text = self._cue_text(span["text"])
            except MediaError as error:
                rejects.append(Reject(span["key"], "clean", error.reason, "text", str(error)))
            spans.append({**span, "text": text})
        cleaned["intervals"] = spans or None
        return rejects

    def _fill_labels(self, work: "_Work") -> None:
        if work.row["labels"] is not None:
            file = work.row["labels"]
            work.cleaned["labels"] = None  # those of the transcript, which are a second set
            work.cleaned["labels"] = parse_labels(read_file(file, self.base), file["suffix"], self._choice(work))


@dataclass
class _Work:
    """One recording while it is cleaned: what ingest knows, what is done, the audio that came with the video, and what
    is odd."""

    row: dict[str, Any]
    cleaned: MediaRow
    track: AudioTrack | None = None
    notices: list[Notice] = field(default_factory=list)


def _attempt(fill: Callable[[_Work], None], work: _Work) -> MediaError | None:
    """The error that kept one file from being taken, if any; the rest of the sample goes on.

    Raises StageError if a file is gone: what comes of it must not be taken for the outcome of what ingest digested.
    """
    try:
        fill(work)
    except MediaError as error:
        return error
    except FileNotFoundError as error:
        name = error.filename or error
        raise StageError(
            f"{name} of {work.row['key']!r} was there at ingest and is gone: run 'dvc repro' again"
        ) from error
    return None


def _whole_rejects(row: dict[str, Any], reason: Reason, text: str) -> list[Reject]:
    """One reject for each sample that is lost with the recording."""
    return [Reject(key, "clean", reason, "sample", text) for key in sample_keys(row)]
