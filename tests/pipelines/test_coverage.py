"""How much of the recordings became segments."""

from pathlib import Path
from typing import Any

import pytest
from counting import publish_rows
from shard_work import local_beam
from test_align import recording

from features.errors import ShardError, StageError
from pipelines.align import align
from pipelines.coverage import COVERAGE_FILE, read_coverage, summarise
from pipelines.job import Reject
from pipelines.media.spans import span
from pipelines.params import AlignParams
from pipelines.stage import write_rejects

SAID = {"a": [span(1.0, 3.0, text="x"), span(2.0, 4.0, text="y"), span(9.5, 11.0, text="z")], "b": [span(11.0, 12.0)]}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """What clean published: one recording of ten seconds with overlapping cues, one whose cue lies outside, a whole one
    without video, one without a timeline; and two that clean rejected, one of them as a part only."""
    no_video = dict.fromkeys(("frames", "frame_times_s", "frames_end_s"))
    media = {"d": {**no_video, "text": "all"}, "e": {**no_video, "audio": None, "text": "e"}}
    rows = [
        recording(key=key, recording=key, cues=SAID.get(key), digests=dict.fromkeys(("text",)), **media.get(key, {}))
        for key in "abde"
    ]
    folder = publish_rows(tmp_path / "clean", rows)
    lost = [Reject("c", "clean", "silent", "sample", "peaks at"), Reject("a", "clean", "empty", "text", "")]
    write_rejects(folder / "rejects.parquet", lost)
    return folder


def cut(clean: Path, **changes: Any) -> dict[str, Any]:
    params = AlignParams(min_s=0.1, max_reject_ratio=1.0, **changes)
    align(params, clean, clean.parent / "align", local_beam())
    return summarise(read_coverage(clean.parent / "align" / COVERAGE_FILE))


def share(found: dict[str, Any], modality: str) -> tuple[float, float, int]:
    numbers = found["modalities"][modality]
    return numbers["there_s"], numbers["segments_s"], numbers["num_segments"]


def test_coverage_counts_overlapping_segments_once(clean: Path) -> None:
    found = {one["recording"]: one for one in cut(clean)["recordings"]}
    assert share(found["a"], "audio") == (10.0, 3.5, 3)
    assert share(found["a"], "video") == (9.0, 3.0, 2)
    assert share(found["a"], "text") == (4.5, 3.5, 3)
    assert (found["a"]["reason"], found["a"]["share"]) == (None, pytest.approx(10.0 / 23.5))
    assert share(found["d"], "audio") == share(found["d"], "text") == (10.0, 10.0, 1)
    assert "e" not in found


def test_coverage_shows_the_rejected_with_nothing_and_their_reason_first(clean: Path) -> None:
    first, second, *others = cut(clean)["recordings"]
    assert (first["recording"], first["reason"], first["share"]) == ("b", "outside_media", 0.0)
    assert share(first, "audio") == (10.0, 0.0, 0)
    assert (second["recording"], second["reason"], second["modalities"]) == ("c", "silent", {})
    assert [one["recording"] for one in others] == ["a", "d"]


def test_coverage_totals_are_those_of_the_recordings_that_have_the_modality(clean: Path) -> None:
    totals = cut(clean)["totals"]
    assert totals["video"] == {"recordings": 2, "there_s": 18.0, "segments_s": 3.0, "share": pytest.approx(1 / 6)}
    assert totals["audio"]["recordings"] == 3
    assert cut(clean, by="window")["totals"]["audio"]["share"] == 1.0


def test_coverage_has_the_same_bytes_whatever_was_made_anew(clean: Path) -> None:
    cut(clean)
    path = clean.parent / "align" / COVERAGE_FILE
    before = path.read_bytes()
    cut(clean)
    assert path.read_bytes() == before
    for shard in path.parent.glob("*.arrow"):
        shard.unlink()
        break
    cut(clean)
    assert path.read_bytes() == before
    cut(clean, by="window")
    assert path.read_bytes() != before


def test_read_coverage_names_what_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="does not exist: run 'dvc repro align'"):
        read_coverage(tmp_path / COVERAGE_FILE)
    (tmp_path / COVERAGE_FILE).write_bytes(b"no table")
    with pytest.raises(ShardError, match="is no whole Parquet file"):
        read_coverage(tmp_path / COVERAGE_FILE)
