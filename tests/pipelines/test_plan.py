"""The plan says what a run then does, and leaves no trace."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import media_files
import pytest
import soundfile
from corpus import digests, run_after_ingest, small_params
from counting import counting_view, embed_texts, publish_texts, take_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.embed import embed
from pipelines.ingest import ingest
from pipelines.inventory import INVENTORY_SCHEMA, read_inventory
from pipelines.params import Params
from pipelines.plan import RunPlan, plan_run, plan_store
from pipelines.view_changes import ViewChanges
from pipelines.view_params import ViewParams
from pipelines.view_plan import DefinedView

TEXTS: dict[str, str | None] = {f"rec{index // 3:02d}/{index % 3}": f"text {index % 14}" for index in range(30)}
TEXTS |= {"rec02/1": None, "rec04/0": "bad"}
NONE_OPEN = INVENTORY_SCHEMA.empty_table()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    embed_texts(folder, TEXTS, [counting_view(folder / "log")])
    return folder


def plan_texts(folder: Path, texts: Mapping[str, str | None], *defined: DefinedView) -> list[ViewChanges]:
    inventory = read_inventory([publish_texts(folder / "align", texts)])
    return plan_store(defined, inventory, folder / "features", 4, NONE_OPEN).views


EDITS = st.dictionaries(
    st.sampled_from(sorted(TEXTS)),
    st.none() | st.sampled_from(["removed", "renamed", "bad", "text 3", "edited", "both"]),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS, st.sampled_from(["one", "one", "two"]), st.sampled_from(["words", "words", "renamed"]))
def test_plan_counts_what_embed_then_encodes(
    tmp_path_factory: pytest.TempPathFactory, made: Path, edits: dict[str, str | None], weights: str, name: str
) -> None:
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("edited") / "project"))
    texts = {**TEXTS, "rec77/0": "text 3", "rec77/1": "new"}
    for key, edit in edits.items():
        text = texts.pop(key)
        if edit in ("renamed", "both"):
            texts[f"{key}x"] = text if edit == "renamed" else "both"
        elif edit != "removed":
            texts[key] = edit
    view = counting_view(folder / "new.log", name, weights=weights)
    planned = plan_texts(folder, texts, view)[0]
    embed_texts(folder, texts, [view], threads=1, max_reject_ratio=1.0)

    assert len(take_log(folder / "new.log")) == planned.num_encoded
    (after,) = plan_texts(folder, texts, view)
    assert (after.is_unchanged, after.num_encoded) == (True, 0)
    assert after.num_unchanged == planned.num_new + planned.num_stale + planned.num_unchanged
    assert after.num_unchanged == sum(text is not None for text in texts.values())


def test_plan_tells_new_stale_unchanged_and_removed_apart(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    texts = {**TEXTS, "rec00/0": "edited", "rec00/1": "edited too", "rec02/1": "no longer absent", "rec05/0": None}
    texts["rec99/0"] = texts.pop("rec09/2")
    (changes,) = plan_texts(folder, texts, counting_view(folder / "log"))

    assert (changes.num_new, changes.num_stale, changes.num_removed) == (2, 2, 2)
    assert changes.num_unchanged == len(texts) - 5
    assert changes.num_encoded == 3
    assert changes.reasons() == ["input bytes of 2 samples"]


@pytest.mark.parametrize(
    ("pooling", "encoder", "reason"),
    [
        ("max", {}, ["pooling mean -> max"]),
        ("mean", {"settings": {"size_px": 96}}, ["encoder option size_px none -> 96"]),
        ("mean", {"weights": "two"}, ["encoder weights 7692c3ad3540 -> 3fc4ccfe7458"]),
    ],
)
def test_plan_says_which_part_of_the_definition_makes_a_view_stale(
    made: Path, tmp_path: Path, pooling: str, encoder: dict[str, Any], reason: list[str]
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    changed = counting_view(folder / "log", pooling=pooling, **encoder)
    (changes,) = plan_texts(folder, {**TEXTS, "rec00/0": "edited"}, changed)

    assert changes.reasons() == [*reason, "input bytes of 1 sample"]
    assert (changes.num_stale, changes.num_unchanged) == (29, 0)


def test_plan_knows_views_that_came_went_or_changed_their_name(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    log = folder / "log"
    views = plan_texts(folder, TEXTS, counting_view(log, "sentences"), counting_view(log, "more", weights="two"))

    assert {view.name: (view.num_new, view.num_removed, view.reasons()) for view in views} == {
        "sentences": (29, 0, ["was called 'words': rows are copied"]),
        "more": (29, 0, ["not stored yet"]),
        "words": (0, 29, ["no longer declared"]),
    }
    assert views[0].num_encoded == 0


def test_plan_says_that_views_changed_their_names_with_each_other(made: Path, tmp_path: Path) -> None:
    folder, log = Path(shutil.copytree(made, tmp_path / "project")), tmp_path / "log"
    embed_texts(folder, TEXTS, [counting_view(log), counting_view(log, "more", weights="two")])
    views = plan_texts(folder, TEXTS, counting_view(log, weights="two"), counting_view(log, "more"))

    assert [(view.num_encoded, view.reasons()[-1]) for view in views] == [
        (0, "was called 'more': rows are copied"),
        (0, "was called 'words': rows are copied"),
    ]


def test_plan_of_no_sample_is_that_all_are_removed(made: Path) -> None:
    (changes,) = plan_store([counting_view(made / "log")], NONE_OPEN, made / "features", 4, NONE_OPEN).views

    assert (changes.num_removed, changes.num_encoded, changes.is_unchanged) == (29, 0, False)


def write_sounds(folder: Path, names: Mapping[str, float]) -> Path:
    """A source of sounds with a text each; the number is what they differ in."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, moment_s in names.items():
        soundfile.write(folder / f"{name}.wav", media_files.tone(0.3 + moment_s, 8000), 8000)
        (folder / f"{name}.txt").write_text(f"a sound of {moment_s}")
    return folder


def sound_params(source: Path, **changes: object) -> Params:
    params = small_params(source, ingest__split__val=0.0, ingest__split__test=0.0, **changes)
    views = {"sound": ViewParams(input="audio", encoder="logmel-mfcc")}
    return params.model_copy(update={"embed": params.embed.model_copy(update={"views": views})})


def run(params: Params, data: Path) -> None:
    ingest(params.ingest, data / "ingest", params.beam)
    run_after_ingest(params, data)
    run_embed(params, data)


def run_embed(params: Params, data: Path) -> None:
    segments = [data / "align", data / "augment"]
    embed(params.embed, segments, data / "features", params.beam, ingest=data / "ingest")


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of ten sounds whose data are up to date."""
    project = tmp_path_factory.mktemp("sounds")
    source = write_sounds(project / "source", {f"rec{index}": index / 10 for index in range(10)})
    run(sound_params(source), project / "data")
    return project


@pytest.fixture
def project(run_once: Path, tmp_path: Path) -> Path:
    """A copy of it; the files of the source are where they were."""
    shutil.copytree(run_once / "data", tmp_path / "data")
    shutil.copytree(run_once / "source", tmp_path / "source")
    return tmp_path


def plan_of(project: Path, **changes: object) -> RunPlan:
    return plan_run(sound_params(project / "source", **changes), project / "data")


def test_plan_before_the_first_run_knows_the_recordings_alone(project: Path) -> None:
    planned = plan_run(sound_params(project / "source"), project / "nothing")
    (view,) = planned.store.views

    assert len(planned.source.new) == 10
    assert [stage.reasons() for stage in planned.stages] == [["has not run yet"]] * 3
    assert (view.num_new, planned.num_open_samples, len(planned.open_recordings)) == (0, 0, 10)
    assert not (project / "nothing").exists()


def test_plan_with_nothing_to_do_is_empty_and_writes_nothing(run_once: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_once.rglob("*")}
    planned = plan_of(run_once)

    assert planned.is_empty
    assert (planned.source.num_unchanged, planned.store.num_samples) == (10, 20)
    assert {path: path.stat().st_mtime_ns for path in run_once.rglob("*")} == before


def test_plan_of_other_recordings_leaves_open_what_only_the_stages_can_tell(project: Path) -> None:
    source = project / "source"
    write_sounds(source, {"new": 1.1, "rec3": 1.3})
    for suffix in (".wav", ".txt"):
        (source / f"rec5{suffix}").rename(source / f"talk{suffix}")
        (source / f"rec7{suffix}").unlink()
    before = digests(project)
    planned = plan_of(project)
    (view,) = planned.store.views

    assert (planned.source.new, planned.source.changed, planned.source.removed) == (["new"], ["rec3"], ["rec7"])
    renamed = [(found.key_before, found.key) for found in planned.source.renamed]
    assert [keys for keys in renamed if keys[0] != keys[1]] == [("rec5", "talk")]
    assert planned.open_recordings == ["new", "rec3", "talk"]
    assert (view.num_open, view.num_unchanged, view.num_removed, view.num_encoded) == (4, 14, 2, 0)
    clean, align, augment = planned.stages
    assert clean.num_again == align.num_open == augment.num_open > 0
    assert digests(project) == before

    params = sound_params(source)
    ingest(params.ingest, project / "data/ingest", params.beam)
    run_after_ingest(params, project / "data")
    exact = plan_of(project)
    (view,) = exact.store.views
    assert (exact.source.is_unchanged, exact.open_recordings) == (True, [])
    assert (view.num_new, view.num_stale, view.num_unchanged, view.num_removed) == (4, 2, 14, 4)
    assert view.num_encoded == 4  # the renamed recording and its variant are copied
    run_embed(params, project / "data")
    assert plan_of(project).is_empty


def test_plan_says_which_parameter_makes_a_stage_run_again(project: Path) -> None:
    clean, align, augment = plan_of(project, augment__audio_gain_db=3.0).stages
    assert (clean.is_unchanged, align.is_unchanged) == (True, True)
    assert augment.reasons() == ["parameter audio_gain_db 6.0 -> 3.0"]

    planned = plan_of(project, align__min_s=0.2)
    clean, align, augment = planned.stages
    assert align.reasons() == ["parameter min_s 0.1 -> 0.2"]
    assert (align.num_kept, augment.num_kept, augment.num_open) == (0, 0, align.num_again)
    assert planned.store.views[0].num_open == 20


def test_plan_without_variants_removes_them(project: Path) -> None:
    (view,) = plan_of(project, augment__copies=0).store.views

    assert (view.num_unchanged, view.num_removed, view.num_open) == (10, 10, 0)


def test_plan_names_a_file_that_moved_and_leaves_the_views_alone(project: Path) -> None:
    (project / "source").rename(project / "elsewhere")
    planned = plan_run(sound_params(project / "elsewhere"), project / "data")

    assert len(planned.source.renamed) == 10
    assert all(stage.is_unchanged for stage in planned.stages)
    assert planned.store.views[0].is_unchanged
    assert planned.store.num_shards == len(list((project / "data/features/samples").iterdir()))  # they name the files
    assert not planned.is_empty
