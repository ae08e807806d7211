"""Align: cut recordings into segments whose text, audio, frames and image share one clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from features.errors import ConfigError
from features.reasons import MediaError, Reason
from features.rev import library_versions
from features.sample import MEDIA_SCHEMA, MediaRow
from pipelines.code import stage_code
from pipelines.coverage import COVERAGE_FILE, measure_coverage
from pipelines.digests import sample_digests
from pipelines.force_words import aligner_settings, force_words
from pipelines.job import Reject
from pipelines.media.diagnosis import diagnose
from pipelines.media.said import Said
from pipelines.media.segments import Interval, Loss, Rules, Segment, cut_span, hull
from pipelines.media.slicing import choose_cut, cut_segment, keep_whole, media_tracks
from pipelines.media.spans import Span
from pipelines.params import AlignParams, BeamParams
from pipelines.proposals import Proposal, propose
from pipelines.stage import Outcome, read_media_rows, run_stage, tasks_per_shard

_RULES = {"min_s", "max_s", "pad_s", "uncovered"}
_BLOCKS = {"window", "voice", "shots", "words"}  # of params.yaml, each for cutting by what it is called
_ALIGNERS = {"pocketsphinx": "pipelines.media.forced.sphinx", "ctc": "pipelines.media.forced.acoustic_models"}
_MODULES = {"voice": "pipelines.media.voice", "shots": "pipelines.media.shots"}
_EXTRAS = {"voice": {"silero_vad": "weights"}, "shots": {"scenedetect": "shots"}}  # imported name -> extra
_LIBRARIES = {"voice": ["torch", "torchaudio"], "shots": ["opencv-python-headless", "scenedetect-headless"]}


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
        measure=lambda records: {COVERAGE_FILE: measure_coverage(before, folder, records)},
    )


def align_settings(params: AlignParams) -> dict[str, Any]:
    """All that decides what a shard of recordings becomes besides its content: of what recordings are not cut by,
    neither parameters nor code nor libraries do."""
    _check_packages(params.by)
    settings = {
        **params.model_dump(exclude={"max_reject_ratio", *(_BLOCKS - {params.by})}),
        "code": stage_code(__name__, unused=_unused_modules(params)),
        "libraries": library_versions(["numpy", "pyarrow", *_LIBRARIES.get(params.by, ())]),
    }
    if params.by == "voice":
        from pipelines.media.voice import weights_digest

        settings["weights"] = weights_digest()
    if params.forced is not None:
        settings["aligner"] = aligner_settings(params.forced)
    return settings


def _unused_modules(params: AlignParams) -> list[str]:
    aligner = None if params.forced is None else params.forced.aligner
    unused = [module for by, module in _MODULES.items() if by != params.by]
    return unused + [module for name, module in _ALIGNERS.items() if name != aligner]


def _check_packages(by: str) -> None:
    for package, extra in _EXTRAS.get(by, {}).items():
        if find_spec(package) is None:
            raise ConfigError(
                f"align.by is {by!r}, which needs the package {package}, and that is not installed: "
                f"run pip install -e '.[{extra}]'"
            )


@dataclass(frozen=True)
class Align:
    """Cuts one recording by what the parameters say; a sample without audio and video passes through whole, unless the
    manifest's intervals cut it."""

    params: AlignParams
    schema: ClassVar[pa.Schema] = MEDIA_SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return read_media_rows(inputs.check())

    def __call__(self, row: MediaRow) -> Outcome:
        tracks = media_tracks(row)
        if not tracks and not (row["intervals"] and self.params.by in ("auto", "intervals")):
            return [_with_digests(keep_whole(row, Said(row), None, row["text"]))], _rejects(_without_timeline(row))
        words, doubts = force_words(row, self.params.forced)
        warnings = [*_oddities(row, tracks), *doubts]
        row = {**row, "words": words}
        try:
            proposal = propose(row, tracks, self.params)
        except MediaError as error:
            return [], _rejects([*warnings, Loss(row["key"], error.reason, "sample", str(error))])
        rows, losses = self._cut(row, tracks, proposal)
        lost = [loss for loss in losses if loss.dropped == "sample"]
        if not rows and all(loss.key != row["key"] for loss in lost):
            first = lost[0]
            text = f"none of its {len(proposal.spans)} segments could be cut; first: {first.text}"
            losses.append(Loss(row["key"], first.reason, "sample", text))
        return rows, _rejects([*warnings, *losses])

    def _cut(
        self, row: MediaRow, tracks: Mapping[str, Interval], proposal: Proposal
    ) -> tuple[list[MediaRow], list[Loss]]:
        rules = Rules(**self.params.model_dump(include=_RULES))
        said = Said(row)
        rows: list[MediaRow] = []
        losses = [*_text_beside_cues(row), *_beyond(row, tracks, proposal), *proposal.losses]
        for key, span in zip(proposal.keys(row["key"]), proposal.spans, strict=True):
            interval = (span["start_s"], span["end_s"])
            segments, lost = cut_span(key, interval, tracks, rules, partial(choose_cut, row, said))
            losses += lost
            cut = [_with_digests(_take(row, said, tracks, segment, span, proposal)) for segment in segments]
            if len(cut) > 1 and span["text"]:
                losses += _lost_text(key, span["text"], [segment["text"] for segment in cut])
            rows += cut
        return rows, losses


def _take(
    row: MediaRow, said: Said, tracks: Mapping[str, Interval], segment: Segment, span: Span, proposal: Proposal
) -> MediaRow:
    text = said.text_in(segment, span, is_own=proposal.has_own_texts)
    if proposal.by == "whole" and segment.part is None:
        first_s, last_s = hull(tracks)
        if (segment.start_s, segment.end_s) == (round(first_s, 3), round(last_s, 3)):
            # To the sample, where a cut would be to the millisecond, and to the letter.
            return keep_whole(row, said, (first_s, last_s), text if row["cues"] else row["text"] or text)
    return cut_segment(row, said, segment, span, text)


def _with_digests(row: MediaRow) -> MediaRow:
    return {**row, "digests": sample_digests(row)}


def _rejects(losses: Iterable[Loss]) -> list[Reject]:
    return [Reject(loss.key, "align", loss.reason, loss.dropped, loss.text) for loss in losses]


def _oddities(row: MediaRow, tracks: Mapping[str, Interval]) -> list[Loss]:
    return [Loss(row["key"], one.reason, one.dropped, one.text) for one in diagnose(row, tracks)]


def _without_timeline(row: MediaRow) -> list[Loss]:
    spans = row["intervals"] or row["cues"] or row["labels"]
    if not spans:
        return []
    text = f"{len(spans)} segments are not cut, since it has no audio and no video: it stays whole"
    return [Loss(row["key"], Reason.OUTSIDE_MEDIA, "part", text)]


def _text_beside_cues(row: MediaRow) -> list[Loss]:
    if not (row["cues"] and row["text"]):
        return []
    text = "its text is a second one beside its transcript, whose cues are kept"
    return [Loss(row["key"], Reason.DUPLICATE, "part", text)]


def _beyond(row: MediaRow, tracks: Mapping[str, Interval], proposal: Proposal) -> list[Loss]:
    """What is said or labelled beyond the recording and is in no segment, where that is not what it is cut by."""
    if not tracks:
        return []
    first_s, last_s = hull(tracks)
    said = "words" if row["words"] else "cues"
    losses = []
    for kind in ["labels"] if proposal.has_own_texts else [said, "labels"]:
        spans = [] if kind == proposal.by else row[kind] or []
        if kind == "labels":  # a label is of all that it overlaps, what is said of where its middle lies
            beyond = [one for one in spans if one["start_s"] >= last_s or one["end_s"] <= first_s]
        else:
            beyond = [one for one in spans if not first_s <= (one["start_s"] + one["end_s"]) / 2 < last_s]
        if beyond:
            text = (
                f"{len(beyond)} of its {len(spans)} {kind} lie beyond the recording, which covers {first_s:.3f} to "
                f"{last_s:.3f} s, and are in no segment; the first starts at {beyond[0]['start_s']:g} s"
            )
            losses.append(Loss(row["key"], Reason.OUTSIDE_MEDIA, "part", text))
    return losses


def _lost_text(key: str, text: str, parts: Sequence[str | None]) -> list[Loss]:
    """What of the text of a span that was divided is in none of its parts."""
    num_words, num_kept = len(text.split()), sum(len((part or "").split()) for part in parts)
    if num_kept >= num_words:
        return []
    said = f"{num_words - num_kept} of the {num_words} words of its text are in none of its {len(parts)} parts"
    why = f"{said}, since their times are not known: raise align.max_s, set align.forced or give word times"
    return [Loss(key, Reason.NOT_ALIGNED, "part" if num_kept else "text", why)]
