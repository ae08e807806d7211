from pathlib import Path

import pytest

from features.rev import digest_file
from pipelines.clean import clean
from pipelines.demo import make_demo, plan_recordings
from pipelines.ingest import ingest
from pipelines.media.transcripts.parse import parse_labels
from pipelines.params import (
    BeamParams,
    CleanAudioParams,
    CleanImageParams,
    CleanParams,
    CleanTextParams,
    CleanTranscriptParams,
    CleanVideoParams,
    DemoParams,
    IngestParams,
    SplitParams,
)
from pipelines.stage import load_rejects
from pipelines.synthesis.recording import Fault

BEAM = BeamParams(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner", options=[], threads=2)
PARAMS = DemoParams(
    recordings=2,
    segments=3,
    seed=7,
    misheard=0.4,
    missing=0.1,
    filler=0.3,
    picture_noise=0.1,
    voice_snr_db=0.0,
    broken=True,
)
STEMS = [f"rec{number:04d}" for number in range(1, 10)]
TRUNCATED, NO_INDEX, SILENT, COPY, NO_TRANSCRIPT, NO_AUDIO, TEXT = STEMS[2:]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(PARAMS, folder, BEAM)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


def test_make_demo_writes_recordings_and_notes_and_nothing_else(demo: Path) -> None:
    files = {f"recordings/{stem}{suffix}" for stem in STEMS for suffix in (".mp4", ".srt", ".labels.csv")}
    assert set(digests(demo)) == files - {f"recordings/{NO_TRANSCRIPT}.srt"} | {"NOTES.md"}


def test_make_demo_same_params_same_bytes_on_fewer_threads_over_an_older_version(demo: Path, tmp_path: Path) -> None:
    make_demo(PARAMS.model_copy(update={"recordings": 1, "segments": 1, "seed": 8}), tmp_path, BEAM)
    make_demo(PARAMS, tmp_path, BEAM.model_copy(update={"threads": 1}))
    assert digests(tmp_path) == digests(demo)


def test_make_demo_labels_every_digit(demo: Path) -> None:
    for recording in plan_recordings(PARAMS):
        labels = parse_labels((demo / "recordings" / f"{recording.stem}.labels.csv").read_bytes(), ".csv")
        assert [span["label"] for span in labels] == [str(shown.digit) for shown in recording.shown]


def test_make_demo_copies_exactly(demo: Path) -> None:
    for suffix in (".mp4", ".srt", ".labels.csv"):
        assert digest_file(demo / f"recordings/{COPY}{suffix}") == digest_file(demo / f"recordings/{STEMS[0]}{suffix}")


def test_make_demo_notes_name_each_broken_recording(demo: Path) -> None:
    notes = (demo / "NOTES.md").read_text()
    assert [line.split(" | ")[0] for line in notes.splitlines() if line.startswith("| rec0")] == [
        f"| {stem}" for stem in STEMS[2:]
    ]
    assert f"exact copy of {STEMS[0]}" in notes
    assert "| voice_snr_db | 0.0 |" in notes


def test_make_demo_broken_recordings_become_what_the_notes_say(demo: Path, tmp_path: Path) -> None:
    split = SplitParams(val=0.2, test=0.2, seed=0)
    source = IngestParams(source=str(demo / "recordings"), columns={}, split=split, max_reject_ratio=1.0)
    ingest(source, tmp_path / "ingest", BEAM)
    clean(
        CleanParams(
            text=CleanTextParams(max_chars=1000),
            image=CleanImageParams(size_px=128),
            audio=CleanAudioParams(rate_hz=16_000, loudness_lufs=-23.0, silence_dbfs=-60.0, stream=0),
            video=CleanVideoParams(rate_hz=2.0, size_px=128, stream=0),
            transcript=CleanTranscriptParams(stream=0, text_tier=None, word_tier=None, label_tier=None),
            shard_samples=8,
            max_reject_ratio=1.0,
        ),
        tmp_path / "ingest",
        tmp_path / "clean",
        BEAM,
    )
    rejects = load_rejects(tmp_path / "clean")
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        (TRUNCATED, "truncated", "sample"),
        (NO_INDEX, "undecodable", "sample"),
        (SILENT, "silent", "audio"),
        (COPY, "duplicate", "sample"),
        (TEXT, "undecodable", "sample"),
    ]


def test_plan_recordings_without_broken_ones_has_no_faults() -> None:
    recordings = plan_recordings(PARAMS.model_copy(update={"broken": False}))
    assert [recording.fault for recording in recordings] == [None, None]
    assert recordings == plan_recordings(PARAMS)[:2]


def test_plan_recordings_breaks_each_fault_once() -> None:
    recordings = plan_recordings(PARAMS)
    assert [recording.fault for recording in recordings[2:]] == list(Fault)
    assert [recording.stem for recording in recordings] == STEMS
