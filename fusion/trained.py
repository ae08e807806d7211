"""A trained model on disk: its weights, and beside them what it was trained on."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save

from features.errors import StageError
from features.rev import digest_file
from features.shards import replacing, write_json
from fusion.config import TrainConfig
from fusion.dataset import SeenView
from fusion.models import FusionModel

_AGAIN = "run 'dvc repro -f train'"
_SUFFIXES = (".json", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model answers with, what it read, and how it was trained; epoch is the one whose weights were kept."""

    classes: Sequence[str]
    views: Sequence[SeenView]
    config: TrainConfig
    epoch: int


def save_model(folder: Path, name: str, card: ModelCard, model: FusionModel) -> None:
    """Write <name>.safetensors, then <name>.json with the digest of the former."""
    weights = folder / f"{name}.safetensors"
    with replacing(weights) as temporary:
        temporary.write_bytes(save(model.state_dict()))  # an error of save_file() would not say that the disk is full
    write_json(folder / f"{name}.json", {**asdict(card), "weights_digest": digest_file(weights)})


def load_model(folder: Path, name: str) -> tuple[ModelCard, FusionModel]:
    """Read a model, ready to predict. Raises StageError if it is not there, or not whole."""
    path, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not path.is_file() or not weights.is_file():
        raise StageError(f"{folder} has no model {name!r}, which the store's views call for: {_AGAIN}")
    content = json.loads(path.read_text())
    if content.pop("weights_digest") != digest_file(weights):
        raise StageError(f"{weights} does not hold the weights that {path.name} describes: {_AGAIN}")
    content["views"] = [SeenView(**view) for view in content["views"]]
    content["config"] = TrainConfig(**content["config"])
    card = ModelCard(**content)
    dims = [view.dim for view in card.views]
    model = FusionModel(dims, len(card.classes), hidden=card.config.hidden, dropout=card.config.dropout)
    model.load_state_dict(load_file(weights))
    model.eval()
    return card, model


def check_fresh(name: str, trained_on: Sequence[SeenView], stored: Sequence[SeenView]) -> None:
    """Raise StageError if the store's views are not those that the model was trained on."""
    if list(trained_on) == list(stored):
        return
    before, now = (
        ", ".join(f"{view.name} ({view.rev[:12]})" for view in views if view not in others)
        for views, others in ((trained_on, stored), (stored, trained_on))
    )
    raise StageError(
        f"model {name!r} is stale: it was trained on view rev {before or 'of fewer views'}, the store has "
        f"{now or 'fewer views'}, and a model only reads the very features it was trained on: {_AGAIN}"
    )


def remove_others(folder: Path, names: Collection[str]) -> None:
    """Remove the models that are none of the named ones, which an earlier training has left."""
    for path in folder.iterdir():
        if path.suffix in _SUFFIXES and path.stem not in names:
            path.unlink()
