"""What clean, align and augment keep when their source changes: which files stay, and what is decoded again.

Raw files that must not be read are removed after ingest has digested them: reading one is then an error.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import media_files
import pytest
import soundfile
from corpus import digests, run_after_ingest, small_params

from features.errors import StageError
from pipelines.clean import clean
from pipelines.ingest import ingest
from pipelines.stage import load_stage

STAGES = ("clean", "align", "augment")
CLEAN = """
import sys
from pathlib import Path
from corpus import small_params
from pipelines.clean import clean
source, data = map(Path, sys.argv[1:])
params = small_params(source, beam__threads=1)
clean(params.clean, data / "ingest", data / "clean", params.beam)
"""
Rows = dict[str, dict[str, str]]


@dataclass
class Project:
    """A source with a manifest, and what the stages made of it."""

    folder: Path
    rows: Rows = field(default_factory=dict)
    threads: int = 2

    @property
    def source(self) -> Path:
        return self.folder / "recordings"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def ingest(self) -> None:
        with open(self.source / "manifest.csv", "w", newline="") as file:
            columns = ["key", "text", "image", "audio", "video", "transcript", "label", "split"]
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({"key": key, **row} for key, row in self.rows.items())
        params = small_params(self.source, beam__threads=self.threads)
        ingest(params.ingest, self.data / "ingest", params.beam)

    def run(self) -> None:
        run_after_ingest(small_params(self.source, beam__threads=self.threads), self.data)

    def run_reading_only(self, names: Iterable[str]) -> None:
        """Run after ingest with no raw file but the named ones."""
        for path in self.source.iterdir():
            if path.name not in names:
                path.unlink()
        self.run()

    def made(self) -> dict[str, str]:
        """Digests of all that the stages keep, by path."""
        return {name: digest for name, digest in digests(self.data).items() if name.startswith(STAGES)}

    def from_scratch(self, folder: Path) -> dict[str, str]:
        """What the stages make of the source as it is now, on one thread and without an earlier version."""
        fresh = Project(folder, self.rows, threads=1)
        shutil.copytree(self.source, fresh.source)
        fresh.ingest()
        fresh.run()
        return fresh.made()

    def shard_with(self, key: str) -> str:
        """Name of the shard of clean in which the recording is."""
        for shard in load_stage(self.data / "clean").shards:
            if shard.first_key <= key <= shard.last_key:
                return shard.name
        raise KeyError(key)


def write_source(folder: Path) -> Rows:
    """Eight recordings: short tones with two cues each, some with a picture or a text, one of them a film."""
    folder.mkdir(parents=True)
    rows: Rows = {}
    for index in range(8):
        key = f"rec{index}"
        write_tone(folder / f"{key}.wav", 300 + 50 * index)
        (folder / f"{key}.srt").write_text(f"1\n00:00:00,000 --> 00:00:00,200\nnumber {index}\n")
        split = {2: "val", 6: "test"}.get(index, "train")
        rows[key] = {"audio": f"{key}.wav", "transcript": f"{key}.srt", "label": str(index), "split": split}
    for index in (0, 4):
        (folder / f"rec{index}.png").write_bytes(media_files.image_bytes(media_files.pixels(seed=index), "PNG"))
        rows[f"rec{index}"]["image"] = f"rec{index}.png"
    script = media_files.Script(frame_times_s=[index / 25 for index in range(25)], audio=[(0.0, 1.0)], clicks_s=[0.5])
    media_files.write_recording(folder / "rec3.mp4", script)
    rows["rec3"] = {"video": "rec3.mp4", "label": "3", "split": "train"}
    rows["rec5"] = {"text": "only a text", "split": "train"}
    return rows


def write_tone(path: Path, frequency_hz: float) -> None:
    soundfile.write(path, media_files.tone(0.4, 8000, frequency_hz=frequency_hz), 8000)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("published"))
    project.rows = write_source(project.source)
    project.ingest()
    project.run()
    return project


@pytest.fixture
def project(published: Project, tmp_path: Path) -> Project:
    """A copy of the published one, to be changed."""
    shutil.copytree(published.folder, tmp_path / "project")
    return Project(tmp_path / "project", {key: dict(row) for key, row in published.rows.items()})


def test_a_renamed_file_changes_nothing(project: Project) -> None:
    before = project.made()
    (project.source / "rec0.wav").rename(project.source / "another name.wav")
    project.rows["rec0"]["audio"] = "another name.wav"
    project.ingest()
    project.run_reading_only([])
    assert project.made() == before


def test_a_moved_source_changes_nothing(project: Project) -> None:
    before = project.made()
    moved = Project(project.folder / "elsewhere", project.rows)
    shutil.move(project.source, moved.source)
    shutil.move(project.data, moved.data)
    moved.ingest()
    moved.run_reading_only([])
    assert moved.made() == before


@pytest.mark.parametrize(("column", "value"), [("label", "other"), ("split", "test"), ("split", "val")])
def test_another_label_or_split_decodes_nothing_and_changes_one_shard_a_stage(
    project: Project, column: str, value: str
) -> None:
    before = project.made()
    shard = project.shard_with("rec0")
    project.rows["rec0"][column] = value
    project.ingest()
    project.run_reading_only([])
    after = project.made()
    changed = {name for name, _ in before.items() ^ after.items() if name.endswith(".arrow")}
    assert {Path(name).name.split("-")[0] for name in changed} == {shard}
    assert {Path(name).parent.name for name in changed} == set(STAGES)


def test_changes_of_all_kinds_decode_what_is_new_and_end_as_from_scratch(project: Project, tmp_path: Path) -> None:
    before = project.made()
    project.rows["rec1"]["label"] = "other"
    project.rows["rec2"]["split"] = "train"
    project.rows["renamed"] = project.rows.pop("rec4")
    del project.rows["rec6"]
    write_tone(project.source / "rec7.wav", 800)
    write_tone(project.source / "added.wav", 850)
    project.rows["rec1b"] = {"audio": "added.wav", "split": "train"}
    project.ingest()
    scratch = project.from_scratch(tmp_path / "scratch")
    project.run_reading_only(["rec7.wav", "rec7.srt", "added.wav"])
    after = project.made()
    assert after == scratch
    assert {name for name in before.items() & after.items() if name[0].startswith("clean/")}


def test_an_edited_transcript_changes_the_variants_of_its_own_recording_alone(project: Project) -> None:
    before = project.made()
    (project.source / "rec0.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nanother word\n")
    shard = project.shard_with("rec0")
    project.ingest()
    project.run_reading_only(["rec0.wav", "rec0.srt", "rec0.png"])
    changed = {name for name, _ in before.items() ^ project.made().items() if name.endswith(".arrow")}
    assert {Path(name).name.split("-")[0] for name in changed} == {shard}


def test_other_parameters_decode_everything_again(project: Project) -> None:
    params = small_params(project.source, clean__audio__loudness_lufs=-20.0)
    before = project.made()
    project.ingest()
    for path in project.source.iterdir():
        path.unlink()
    with pytest.raises(StageError, match="was there at ingest and is gone"):
        clean(params.clean, project.data / "ingest", project.data / "clean", params.beam)
    assert {name: digest for name, digest in project.made().items() if name in before} == before


def test_a_recording_that_lost_something_is_made_again(project: Project) -> None:
    (project.source / "rec0.png").write_text("no picture")
    project.ingest()
    project.run()
    rejects = [reject.key for record in load_stage(project.data / "clean").records for reject in record.rejects]
    assert rejects == ["rec0"]
    project.rows["rec0"]["label"] = "other"
    project.ingest()
    with pytest.raises(StageError, match=r"rec0\.\w+ of 'rec0' was there at ingest and is gone"):
        project.run_reading_only([])


def test_damaged_media_are_not_taken_over(project: Project, tmp_path: Path) -> None:
    shard = project.shard_with("rec0")
    path = next((project.data / "clean").glob(f"{shard}-*.arrow"))
    content = bytearray(path.read_bytes())
    content[content.index(b"\x89PNG") + 100] ^= 1
    path.write_bytes(content)
    project.rows["rec0"]["label"] = "other"
    project.ingest()
    with pytest.raises(
        StageError, match=r"shard .*\.arrow is not what the manifest says: delete it and run 'dvc repro'"
    ):
        project.run()
    path.unlink()
    project.run()
    assert project.made() == project.from_scratch(tmp_path / "scratch")


def test_a_run_that_was_killed_is_finished_by_the_next_with_the_same_bytes(project: Project, tmp_path: Path) -> None:
    for row in project.rows.values():
        row["label"] = "other"
    write_tone(project.source / "rec7.wav", 800)
    project.ingest()
    scratch = project.from_scratch(tmp_path / "scratch")
    manifest = project.data / "clean" / "manifest.json"
    published = manifest.read_bytes()
    kill_while_it_reads(project, project.source / "rec7.wav")
    assert manifest.read_bytes() == published
    project.run_reading_only(["rec7.wav", "rec7.srt"])
    assert project.made() == scratch


def kill_while_it_reads(project: Project, path: Path) -> None:
    """Run clean in a process of its own and kill it when it opens the raw file, which is a pipe meanwhile."""
    aside = path.rename(path.with_name("aside"))
    os.mkfifo(path)
    command = [sys.executable, "-c", CLEAN, str(project.source), str(project.data)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    # If the process ends before, nobody would ever open the pipe's other end, and this test never end.
    threading.Thread(target=lambda: (process.wait(), os.open(path, os.O_RDONLY | os.O_NONBLOCK)), daemon=True).start()
    with open(path, "wb"):
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    path.unlink()
    aside.rename(path)
