"""Demo: make recordings of spoken and handwritten digits, shaped like real ones, some broken on purpose."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.rev import digest_code, digest_file, digest_json, library_versions
from features.shards import Shard, replacing
from pipelines.job import ShardRecord, ShardTask, remove_work, run_job
from pipelines.params import BeamParams, DemoParams
from pipelines.progress import ShardProgress
from pipelines.synthesis.handwriting import load_handwriting
from pipelines.synthesis.recogniser import Recogniser
from pipelines.synthesis.recording import Fault, Recording, Studio
from pipelines.synthesis.script import choose_digits
from pipelines.synthesis.speech import check_voice

RECORDINGS_FOLDER = "recordings"
NOTES_FILE = "NOTES.md"

_MAKING = ".making-"  # followed by the fingerprint: an interrupted run goes on only with recordings of its own kind
_MODULES = ("container", "handwriting", "picture", "recogniser", "recording", "script", "sound", "speech")
_CODE = ("pipelines.demo", *(f"pipelines.synthesis.{name}" for name in _MODULES))
_LIBRARIES = ["av", "espeakng-loader", "numpy", "opencv-python-headless", "scikit-learn"]

_OUTCOMES = {
    Fault.TRUNCATED: "`clean` rejects the recording as `truncated`",
    Fault.NO_INDEX: "`clean` rejects the recording as `undecodable`",
    Fault.SILENT: "`clean` rejects its audio as `silent`; its segments have text, image and video",
    Fault.COPY: "`clean` rejects the recording as `duplicate`",
    Fault.NO_TRANSCRIPT: "`align` cuts it by its labels; its segments have image, audio and video, but no text",
    Fault.NO_AUDIO: "its segments have text, image and video, but no audio",
    Fault.TEXT: "`clean` rejects the recording as `undecodable`",
}


def make_demo(params: DemoParams, folder: Path, beam: BeamParams) -> None:
    """Write the recordings to folder/recordings and what is to know of them to folder/NOTES.md.

    A recording is an mp4, an srt transcript (but for one that lacks it) and a labels.csv of one stem. Equal params
    give equal bytes. Raises ConfigError if the package with the voice is not installed.
    """
    check_voice()
    recordings = plan_recordings(params)
    settings = {"code": digest_code(*_CODE), "libraries": library_versions(_LIBRARIES), **params.model_dump()}
    fingerprint = digest_json(settings)
    making = folder / f"{_MAKING}{fingerprint}"
    for stale in set(folder.glob(f"{_MAKING}*")) - {making}:
        shutil.rmtree(stale)
    tasks = [
        ShardTask(recording.stem, str(making.resolve()), f"{recording.stem}.mp4", fingerprint, 1, recording)
        for recording in recordings
    ]
    run_job(_MakeRecording(_studio(params)), tasks, known={}, params=beam, label="demo")
    remove_work(making)
    with replacing(folder / NOTES_FILE) as temporary:
        temporary.write_text(describe_demo(params, recordings))
    shutil.rmtree(folder / RECORDINGS_FOLDER, ignore_errors=True)
    making.rename(folder / RECORDINGS_FOLDER)


def plan_recordings(params: DemoParams) -> list[Recording]:
    """The recordings to make, the broken ones last; the copy is one of the first."""
    faults: list[Fault | None] = [None] * params.recordings + ([*Fault] if params.broken else [])
    _, labels = load_handwriting()
    chosen = choose_digits(labels.tolist(), recordings=len(faults), segments=params.segments, seed=params.seed)
    recordings: list[Recording] = []
    for number, (shown, fault) in enumerate(zip(chosen, faults, strict=True)):
        stem = _stem(number)
        if fault is Fault.COPY:
            recordings.append(Recording(stem, recordings[0].number, recordings[0].shown, fault))
        else:
            recordings.append(Recording(stem, number, shown, fault))
    return recordings


def _stem(number: int) -> str:
    return f"rec{number + 1:04d}"


def _studio(params: DemoParams) -> Studio:
    recogniser = Recogniser(params.misheard, params.missing, params.filler)
    return Studio(params.seed, recogniser, params.picture_noise, params.voice_snr_db)


@dataclass(frozen=True)
class _MakeRecording:
    """The worker of the job: a task is one recording."""

    studio: Studio

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        path = self.studio.make(task.inputs, Path(task.folder))
        progress.add(1, 0)
        progress.report()
        shard = Shard(task.name, path.name, 1, task.name, task.name, digest_file(path))
        return ShardRecord(shard, task.fingerprint, 1, ())


def describe_demo(params: DemoParams, recordings: Sequence[Recording]) -> str:
    """The notes beside the recordings: their parameters, and each broken one with what must become of it."""
    lines = [
        "# The demo recordings",
        "",
        "Generated: handwritten digits (scikit-learn's `load_digits`) shown on a moving, noisy background, said by",
        "espeak-ng over background noise, and written down by a recogniser that mishears.",
        "",
        "| parameter | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in params.model_dump().items()),
    ]
    broken = [(recording, recording.fault) for recording in recordings if recording.fault is not None]
    if broken:
        lines += ["", "## Broken on purpose", "", "| recording | what is wrong | what must become of it |"]
        lines += ["| --- | --- | --- |"]
    for recording, fault in broken:
        wrong = fault.format(original=_stem(recording.number))
        lines.append(f"| {recording.stem} | {wrong} | {_OUTCOMES[fault]} |")
    return "\n".join(lines) + "\n"
