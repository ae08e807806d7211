"""Images and texts to vectors of one space, by any open_clip model the user has."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.constants import HF_CONFIG_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import (
    _get_safe_alternatives,
    download_pretrained,
    get_pretrained_cfg,
    list_pretrained_tags_by_model,
)
from PIL import Image
from torch import Tensor

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.images import prepare_images
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.tokens import take_text
from features.encoders.weights import LOAD_FAILURES, digest_weights, find_weights_file, is_fetching, missing_weights
from features.errors import EncoderError
from features.view import View


def make_images(model: str, view: View) -> Encoder:
    """Encoder of images and frames: the vectors of the image side, as the model gives them."""
    return _make(model, view, frozenset({"image", "video"}), _image_network, ("vision_cfg", "image_size", "size_px"))


def make_texts(model: str, view: View) -> Encoder:
    """Encoder of texts: the vectors of the text side, as the model gives them."""
    return _make(model, view, frozenset({"text"}), _text_network, ("text_cfg", "context_length", "max_tokens"))


def _make(
    model: str,
    view: View,
    inputs: frozenset[str],
    network: Callable[[str, str | None, str], Network],
    limit: tuple[str, str, str],
) -> Encoder:
    name, pretrained = _parse(model, view.encoder)
    return NetworkEncoder(
        name=view.encoder,
        inputs=inputs,
        batch_size=read_options(view, batch_size=8)["batch_size"],
        settings={},
        weights_digest=partial(_digest, name, pretrained, view.encoder),
        modules=("open_clip_pairs", "images"),
        libraries=("open_clip_torch", "torchvision", "pillow"),
        bring=partial(_bring, network, name, pretrained, view.encoder),
        about=_about(name, *limit),
    )


def _about(name: str, side: str, key: str, what: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    limit = config[side].get(key)
    return {"dim": config["embed_dim"], **({what: limit} if isinstance(limit, int) else {})}


def _parse(model: str, encoder: str) -> tuple[str, str | None]:
    """open_clip's own two names: "local-dir:<folder>" and None, or a model and its pretrained tag or weights file."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / HF_CONFIG_NAME).is_file():
            raise EncoderError(
                f"encoder {encoder!r}: {folder} holds no {HF_CONFIG_NAME}: save an open_clip model there"
            )
        return f"local-dir:{folder.resolve()}", None
    name, _, pretrained = model.partition("/")
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, open_clip.list_models(), n=1, cutoff=0.0)[0]
        raise EncoderError(f"encoder {encoder!r} is no open_clip model and no folder: did you mean 'open_clip:{near}'?")
    if get_pretrained_cfg(name, pretrained):
        return name, pretrained
    if not Path(pretrained).is_file():
        tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise EncoderError(
            f"encoder {encoder!r}: {pretrained!r} is neither a weights file nor a pretrained tag of {name}, "
            f"which has: {tags}; write open_clip:{name}/<one of them>"
        )
    return name, str(find_weights_file(pretrained, encoder))


def _digest(name: str, pretrained: str | None, encoder: str) -> str:
    if pretrained is None:
        return digest_weights(Path(name.removeprefix("local-dir:")), encoder)
    config = get_pretrained_cfg(name, pretrained)
    if not config:
        return digest_weights(Path(pretrained), encoder)
    instead = f"open_clip:{name}/<weights file>"
    if not is_fetching():
        cached = _cached(config)
        if cached is None:
            raise missing_weights(encoder, "the cache", instead)
        return digest_weights(cached, encoder)
    try:
        return digest_weights(Path(download_pretrained(config)), encoder)
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors, open_clip's own RuntimeErrors
        raise EncoderError(
            f"encoder {encoder!r}: its weights cannot be downloaded ({type(error).__name__}): "
            f"check the network, or write {instead}"
        ) from error


def _cached(config: dict[str, Any]) -> Path | None:
    """The file that open_clip keeps of pretrained weights, where open_clip puts it."""
    if not config.get("hf_hub"):
        path = Path("~/.cache/clip", config["url"].rpartition("/")[2]).expanduser()
        return path if path.is_file() else None
    repository, _, name = config["hf_hub"].rpartition("/")
    name = name or HF_WEIGHTS_NAME
    kept = (try_to_load_from_cache(repository, file) for file in (*_get_safe_alternatives(name), name))
    return next((Path(path) for path in kept if isinstance(path, str)), None)


def _bring(
    network: Callable[[str, str | None, str], Network], name: str, pretrained: str | None, encoder: str, device: str
) -> Network:
    try:
        return network(name, pretrained, device)
    except LOAD_FAILURES as error:
        raise EncoderError(f"encoder {encoder!r} does not load: {' '.join(str(error).split())[:300]}") from error


def _image_network(name: str, pretrained: str | None, device: str) -> Network:
    model, transform = open_clip.create_model_from_pretrained(name, pretrained=pretrained)
    settle(model, device)

    def shape(image: Image.Image) -> np.ndarray:
        pixels_CHW: np.ndarray = transform(image).numpy()
        return pixels_CHW

    probe = shape(Image.new("RGB", (8, 8)))
    return Network(partial(prepare_images, shape), model.encode_image, _dim(model.encode_image, probe, device), model)


def _text_network(name: str, pretrained: str | None, device: str) -> Network:
    model, _ = open_clip.create_model_from_pretrained(name, pretrained=pretrained)
    settle(model, device)
    tokenizer = open_clip.get_tokenizer(name)

    def prepare(media: Media) -> Prepared:
        return Prepared([tokenizer([take_text(media)])[0].numpy()], np.full((1, 2), np.nan))

    dim = _dim(model.encode_text, tokenizer(["probe"])[0].numpy(), device)
    return Network(prepare, model.encode_text, dim, model)


def _dim(forward: Callable[[Tensor], Tensor], unit: np.ndarray, device: str) -> int:
    with torch.inference_mode():
        return int(forward(torch.from_numpy(unit)[None].to(device)).shape[-1])
