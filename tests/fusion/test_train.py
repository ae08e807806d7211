import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import build_store
from labelled_store import StoreMaker

from features.errors import StageError
from fusion.config import TrainConfig
from fusion.train import train


@pytest.fixture
def brief(config: TrainConfig) -> TrainConfig:
    """Long enough to see what is written, too short to learn."""
    return replace(config, epochs=2)


def test_train_writes_a_model_a_view_and_their_concatenation(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path
) -> None:
    assert train(brief, make_store(), tmp_path / "models") == ["audio", "image", "concat"]
    card = json.loads((tmp_path / "models" / "concat.json").read_text())
    assert card["classes"] == ["left", "mid", "right"]
    assert [(view["name"], view["rev"], view["dim"]) for view in card["views"]] == [
        ("audio", "audio-r1", 4),
        ("image", "image-r1", 4),
    ]
    assert card["config"]["hidden"] == brief.hidden
    with (tmp_path / "models" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["audio"] * 2 + ["image"] * 2 + ["concat"] * 2
    assert all(float(row["val_loss"]) > 0 and 0 <= float(row["val_accuracy"]) <= 1 for row in rows)


def test_train_gives_the_same_bytes_twice(make_store: StoreMaker, brief: TrainConfig, tmp_path: Path) -> None:
    store = make_store()
    for folder in ("one", "two"):
        train(brief, store, tmp_path / folder)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_train_of_one_view_does_not_depend_on_the_others(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path
) -> None:
    train(brief, make_store(), tmp_path / "both")
    assert train(brief, make_store(views=("image",), name="alone"), tmp_path / "alone") == ["image"]
    assert (tmp_path / "both" / "image.safetensors").read_bytes() == (
        tmp_path / "alone" / "image.safetensors"
    ).read_bytes()


def test_train_leaves_out_a_view_that_no_sample_has(
    brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ["train", "train", "val", "test"] * 2
    samples = [{"key": str(row), "split": split, "label": "ab"[row % 2]} for row, split in enumerate(splits)]
    image = {"vectors": list(np.eye(8, dtype=np.float32))}
    build_store(tmp_path / "store", samples, {"image": image, "video": {"vectors": [None] * 8, "dim": 3}})

    assert train(brief, tmp_path / "store", tmp_path / "models") == ["image"]
    assert "video: no sample has any" in capsys.readouterr().out


def test_train_removes_the_models_of_an_earlier_store(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path
) -> None:
    train(brief, make_store(), tmp_path / "models")
    train(brief, make_store(views=("image",), name="alone"), tmp_path / "models")
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"image.json", "image.safetensors", "curves.csv"}


def test_train_leaves_sequences_and_unlabelled_samples_out_and_says_so(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(
        sequence=True, relabel=lambda split, label: None if (split, label) == ("train", "mid") else label
    )
    assert train(brief, store, tmp_path / "models") == ["audio", "image", "concat"]
    printed = capsys.readouterr().out
    assert "frames keep sequences and are left out" in printed
    assert "72 of 216 samples of split 'train' have no label and are left out" in printed
    assert json.loads((tmp_path / "models" / "image.json").read_text())["classes"] == ["left", "right"]


def test_train_of_an_unlabelled_store_writes_no_model_and_says_so(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(brief, make_store(relabel=lambda split, label: None), tmp_path / "models") == []
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["curves.csv"]
    assert capsys.readouterr().out.splitlines() == [
        "train: no sample of the store has a label, so there is nothing to train: the features are the product"
    ]


def test_train_of_a_store_without_pooled_views_writes_no_model_and_says_so(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(brief, make_store(views=(), sequence=True), tmp_path / "models") == []
    assert "no view is pooled, so there is nothing to train" in capsys.readouterr().out


def test_train_without_val_trains_for_all_epochs_and_says_so(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        replace(brief, epochs=3), make_store(resplit=lambda split: split.replace("val", "train")), tmp_path / "models"
    )
    assert "every model trains for all its epochs" in capsys.readouterr().out
    assert json.loads((tmp_path / "models" / "concat.json").read_text())["epoch"] == 3
    assert (tmp_path / "models" / "curves.csv").read_text().splitlines()[-1].endswith(",nan,nan")


@pytest.mark.parametrize(
    ("split", "cure"), [("test", "change ingest.split.seed or its shares, or give a split column"), ("train", "split")]
)
def test_train_refuses_a_labelled_store_with_an_empty_split(
    make_store: StoreMaker, brief: TrainConfig, tmp_path: Path, split: str, cure: str
) -> None:
    store = make_store(resplit=lambda found: found.replace(split, "val"))
    with pytest.raises(StageError, match=rf"^split '{split}' has 0 labelled samples of 0, .*{cure}"):
        train(brief, store, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_train_refuses_a_single_class(make_store: StoreMaker, brief: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="split 'train' has only the label 'left'"):
        train(brief, make_store(relabel=lambda split, label: "left"), tmp_path / "models")
