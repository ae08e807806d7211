"""Models of torchvision without their classifiers, and the weights that torchvision lists for them."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoders.weights import digest_weights, find_url, find_weights_file, read_state
from features.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

# What torchvision itself sets when it makes these models for weights of its own.
_INCEPTION = {"transform_input": True, "init_weights": False}
_MADE_WITH: dict[str, dict[str, Any]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


@dataclass(frozen=True)
class Listed:
    """A model of torchvision with an entry of its list of weights, and the user's file where there is one."""

    encoder: str
    model: str
    entry: str
    file: str

    @property
    def weights(self) -> Any:
        """torchvision's entry: url, meta and transforms()."""
        from torchvision.models import get_model_weights

        return get_model_weights(self.model)[self.entry]

    def find(self) -> Path:
        """The file of the weights: the user's, or torchvision's in the cache of torch.hub, brought there if fetching.

        Raises EncoderError if it is not there.
        """
        if self.file:
            return find_weights_file(self.file, self.encoder)
        return find_url(str(self.weights.url), self.encoder)

    def digest(self) -> str:
        return digest_weights(self.find(), self.encoder)

    def bring_body(self) -> tuple[nn.Module, int]:
        """The model with its weights, up to the classifier, and the length of its vectors.

        Raises EncoderError if weights of the body are missing or do not fit.
        """
        from torchvision.models import get_model

        path = self.find()
        model: nn.Module = get_model(self.model, weights=None, **self._made_with())
        name, dim = _remove_classifier(model)
        state = read_state(path)
        for key in [key for key in state if key.startswith(f"{name}.")]:
            del state[key]  # in place: the tensors come with the versions of their layers
        try:
            model.load_state_dict(_renamed(state))
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EncoderError(f"{path} does not fit: {reason}; give weights of torchvision's {self.model}") from error
        return model, dim

    def _made_with(self) -> dict[str, Any]:
        if self.model.startswith("vit_"):
            return {"image_size": self.weights.meta["min_size"][0]}
        return _MADE_WITH.get(self.model, {})


def look_up(name: str, encoder: str, *, file: str, of_videos: bool) -> Listed:
    """The model called "<model>" or "<model>/<entry of its weights>", the default one if none is named.

    Raises EncoderError if torchvision does not list it among its classifiers of images or of videos.
    """
    from torchvision import models

    families = {"torchvision-video": models.video, "torchvision": models}
    own = "torchvision-video" if of_videos else "torchvision"
    model, _, entry = name.partition("/")
    listing = {family: models.list_models(module=module) for family, module in families.items()}
    if model not in listing[own]:
        others = [f"{family}:{model}" for family, listed in listing.items() if model in listed]
        near = others or [f"{own}:{difflib.get_close_matches(model, listing[own], n=1, cutoff=0.0)[0]}"]
        what = "videos" if of_videos else "images"
        raise EncoderError(f"encoder {encoder!r} is no torchvision model of {what}: did you mean {near[0]!r}?")
    entries = models.get_model_weights(model)
    if entry and entry not in entries.__members__:
        names = ", ".join(listed.name for listed in entries)
        raise EncoderError(f"encoder {encoder!r}: {model} has no weights {entry!r}, only {names}")
    return Listed(encoder, model, (entries[entry] if entry else entries.DEFAULT).name, file)


def _remove_classifier(model: nn.Module) -> tuple[str, int]:
    """Put nothing where the last layer with weights is; gives its name and the length of what it was given."""
    from torch import nn

    kinds = nn.Linear | nn.Conv2d | nn.Conv3d
    name, layer = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kinds)][-1]
    model.set_submodule(name, nn.Identity())
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with the names of today: torchvision's files of DenseNets call layers as its first releases did."""
    for key in [key for key in state if ".denselayer" in key]:
        state[re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key)] = state.pop(key)
    return state
