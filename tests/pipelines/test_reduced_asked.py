"""Reduced views as plan, queries and commands tell them."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting import publish_rows, publish_sources, take_log, text_row
from reducing import PARAMS, STEPS, TEXTS, both, rows_of, run
from shard_work import local_beam

import features
from features.files import open_first
from features.reductions import read_fit
from features.sample import MediaRow
from flows.cli import main
from pipelines.digests import sample_digests
from pipelines.embed import define_views, embed_views
from pipelines.inventory import INVENTORY_SCHEMA, read_inventory
from pipelines.media.audio import to_pcm16
from pipelines.plan import plan_store
from pipelines.revs import declared_revs
from pipelines.view_changes import ViewChanges
from pipelines.view_params import ReducedViewParams, ViewParams
from pipelines.view_worker import as_media


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run(folder, TEXTS, both(folder / "log"))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def plan(folder: Path, texts: Mapping[str, str | None], defined: Any, **known: Any) -> ViewChanges:
    """What is planned for the reduced view."""
    inventory = read_inventory([publish_rows(folder / "align", rows_of(texts))])
    none_open = INVENTORY_SCHEMA.empty_table()
    return plan_store(defined, inventory, folder / "features", 4, none_open, **known).views[-1]


def counts(changes: ViewChanges) -> tuple[int, int, int, int, int]:
    return changes.num_new, changes.num_stale, changes.num_unchanged, changes.num_removed, changes.num_open


def test_plan_tells_whether_a_view_will_be_fitted_anew(project: Path, log: Path) -> None:
    assert plan(project, TEXTS, both(log)).is_unchanged
    added = plan(project, {**TEXTS, "val30": "new"}, both(log))
    assert (counts(added), added.reasons(), added.num_encoded) == ((1, 0, 30, 0, 0), [], 0)
    trained = plan(project, {**TEXTS, "train30": "new"}, both(log))
    assert counts(trained) == (1, 30, 0, 0, 0)
    assert trained.reasons()[0].startswith("digest of training samples ")
    other = plan(project, TEXTS, both(log, ["l2"]))
    assert (counts(other), other.reasons()) == (
        (0, 30, 0, 0, 0),
        ["encoder standardise, pca 2 whitened, l2 -> l2"],
    )
    weights = plan(project, TEXTS, both(log, weights="two"))
    assert counts(weights) == (0, 30, 0, 0, 0)
    assert weights.reasons()[0].startswith("rev of the view it is made from ")
    assert take_log(log) == []


def test_plan_leaves_open_what_depends_on_samples_to_come(project: Path, log: Path) -> None:
    changes = plan(project, TEXTS, both(log), is_train_known=False)

    assert counts(changes) == (0, 0, 0, 0, 30)
    assert changes.reasons() == ["fitted on training samples, some of which are known later"]
    assert plan(project, TEXTS, both(log, ["l2"]), is_train_known=False).num_stale == 30


def sound_row(index: int) -> MediaRow:
    wave_T = np.random.default_rng(index).normal(0, 0.1, 4000 + 977 * index).astype(np.float32)
    row = text_row(f"train{index}", None)
    row |= {"audio": to_pcm16(wave_T), "audio_rate_hz": 16_000, "audio_start_s": 0.0, "start_s": 0.0, "end_s": 2.0}
    return {**row, "digests": sample_digests(row)}


def test_a_query_by_sound_is_encoded_as_the_base_and_then_reduced(tmp_path: Path) -> None:
    views = {
        "small": ReducedViewParams(view="sound", reduce=STEPS, dtype="float32"),
        "sound": ViewParams(input="audio", encoder="logmel-mfcc", dtype="float32"),
    }
    params = PARAMS.model_copy(update={"views": views})
    segments = publish_rows(tmp_path / "align", [sound_row(index) for index in range(6)])
    sources = publish_sources(tmp_path / "ingest", {})
    embed_views(define_views(params), params, [segments], tmp_path / "features", local_beam(), ingest=sources)
    store = features.open(tmp_path / "features")
    row = sound_row(4)
    found = store.nearest("small", as_media(row, "audio"), k=2)

    assert found["key"].to_pylist()[0] == "train4"
    assert found["score"].to_pylist()[0] == pytest.approx(1.0, abs=1e-6)
    declared = declared_revs(params)
    assert declared["small"]["made_from"] == {"view": "sound", "rev": declared["sound"]["rev"]}
    assert declared["small"]["rev"] != store.views["small"].rev


@pytest.mark.parametrize(
    ("command", "said"),
    [(["views"], "view words"), (["lineage", "val01"], "view small: standardise, pca 2 whitened, l2 of view words")],
)
def test_the_commands_say_what_a_view_is_made_from(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["plait", *command, "--store", str(made / "features")])
    with pytest.raises(SystemExit):
        main()

    assert said in capsys.readouterr().out


def test_the_fit_is_a_file_of_the_version(made: Path) -> None:
    store = features.open(made / "features")
    view = store.views["small"]

    assert f"small/{view.fit_file}" in store.manifest.file_names
    fitted = open_first(store.files, f"small/{view.fit_file}", read_fit)
    assert [step.kind for step in fitted] == ["standardise", "pca", "l2"]
    assert (view.base, view.input, view.encoder, view.dim) == ("words", "text", "standardise, pca 2 whitened, l2", 2)
