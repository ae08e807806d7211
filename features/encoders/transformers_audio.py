"""What encoders of sounds by models of transformers share."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoders.weights import local_folder, read_settings
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

LAST = 0  # of the option layer

_DIMS = ("projection_dim", "d_model", "hidden_size")  # of CLAP, Whisper and the models that read waveforms
_UNUSED = ("masked_spec_embed",)  # which training puts where it hides frames, and many checkpoints leave out


def load_model(folder: Path) -> Any:
    """The model of a local folder. Raises EncoderError if weights are missing: random ones would be made up."""
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_UNUSED))
    if missing:
        raise EncoderError(
            f"{folder} lacks weights of {missing[0]} ({len(missing)} in all): save the whole model there"
        )
    return model


def check_layer(layer: int, view: View, folder: Path | None) -> None:
    """Raise EncoderError if the view asks for a layer that the model in the folder does not have."""
    config = read_settings(folder / "config.json") if folder else {}
    num_layers = config.get("encoder_layers", config.get("num_hidden_layers"))
    if num_layers is not None and layer > num_layers:
        raise EncoderError(
            f"view {view.name!r}: option 'layer' of encoder {view.encoder!r} is {layer}; "
            f"it must be at most {num_layers}"
        )


def output_of_layer(model: Any, layer: int, **inputs: Tensor) -> Tensor:
    """[clip, vector, dim], what a layer of the transformer, counted from 1, gives; of LAST, the model's own output."""
    if layer == LAST:
        output: Tensor = model(**inputs).last_hidden_state
    else:
        output = model(**inputs, output_hidden_states=True).hidden_states[layer]
    return output


def about_audio(name: str) -> dict[str, Any]:
    """What the model of a folder or of the hub's cache takes and gives, as far as its settings tell."""
    folder = local_folder(name)
    if folder is None:
        return {}
    config, extractor = (read_settings(folder / file) for file in ("config.json", "preprocessor_config.json"))
    rate_hz, dim = extractor.get("sampling_rate"), next((config[key] for key in _DIMS if key in config), None)
    known = {"rate_hz": rate_hz, "dim": dim}
    if rate_hz and "conv_stride" in config:
        known["vectors_hz"] = rate_hz / prod(config["conv_stride"])
    elif "max_source_positions" in config and "chunk_length" in extractor:
        known["vectors_hz"] = config["max_source_positions"] / extractor["chunk_length"]
    return {what: value for what, value in known.items() if value is not None}
