"""Texts to one vector each, by any sentence-transformers or transformers model the user has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.weights import digest_weights, find_folder
from features.errors import EncoderError
from features.reasons import MediaError, Reason
from features.view import View

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_SHORTEST_TOKENS = 16
_LONGEST_TOKENS = 512  # where a model does not say what it can take


def make_sentence_transformer(model: str, view: View) -> Encoder:
    """A sentence-transformers model with the pooling that it declares."""
    return _make_from_folder(model, view, load_sentence_transformer)


def make_transformer(model: str, view: View) -> Encoder:
    """A transformers text model; a text's vector is the mean of its tokens' last hidden states."""
    return _make_from_folder(model, view, _load_mean_of_tokens)


def _make_from_folder(model: str, view: View, load: Callable[[Path, str], SentenceTransformer]) -> Encoder:
    find = partial(find_folder, model, view.encoder)
    return text_encoder(
        view,
        bring=partial(_bring_folder, find, load),
        weights_digest=partial(_folder_digest, find, view.encoder),
    )


def text_encoder(
    view: View, *, bring: Callable[[str], Network], weights_digest: Callable[[], str], modules: tuple[str, ...] = ()
) -> Encoder:
    """The encoder of a text view; modules: those that compute it beside this one."""
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"text"}),
        batch_size=read_options(view, batch_size=8)["batch_size"],
        settings={},
        weights_digest=weights_digest,
        modules=("sentences", *modules),
        libraries=("sentence-transformers", "transformers", "tokenizers"),
        bring=bring,
    )


def _folder_digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring_folder(find: Callable[[], Path], load: Callable[[Path, str], SentenceTransformer], device: str) -> Network:
    folder = find()
    try:
        return sentence_network(load(folder, device), device)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder} holds no text model that loads: {str(error).splitlines()[0]}") from error


def load_sentence_transformer(folder: Path, device: str) -> SentenceTransformer:
    """The model of a local folder, without asking any hub."""
    from sentence_transformers import SentenceTransformer

    _silence()
    return SentenceTransformer(str(folder), device=device, local_files_only=True)


def _load_mean_of_tokens(folder: Path, device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    _silence()
    local = {"local_files_only": True}
    tokens = Transformer(str(folder), model_kwargs=local, processor_kwargs=local, config_kwargs=local)
    pooling = Pooling(tokens.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[tokens, pooling], device=device)


def _silence() -> None:
    """No progress bar: it would run through the stage's own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def sentence_network(model: SentenceTransformer, device: str) -> Network:
    """The model with its own tokenizer, prompt and pooling, fed with texts padded to few lengths."""
    from torch import Tensor

    settle(model, device)
    prompt = model.prompts.get(model.default_prompt_name)
    probe = model.preprocess(["probe"], prompt=prompt)
    names = [name for name, value in probe.items() if isinstance(value, Tensor)]
    constants = {name: value for name, value in probe.items() if name not in names}
    lock = threading.Lock()  # a tokenizer sets its padding on itself before each use

    def tokenize(text: str) -> dict[str, np.ndarray]:
        with lock:
            features = model.preprocess([text], prompt=prompt)
        return {name: features[name][0].numpy() for name in names}

    def forward(units_BKT: Tensor) -> Tensor:
        features = {name: units_BKT[:, index] for index, name in enumerate(names)}
        vectors_BD: Tensor = model({**constants, **features})["sentence_embedding"]
        return vectors_BD

    padding = {"input_ids": model.tokenizer.pad_token_id or 0}
    longest = model.max_seq_length or _LONGEST_TOKENS
    return Network(partial(prepare_text, tokenize, padding, longest), forward, model.get_embedding_dimension())


def prepare_text(
    tokenize: Callable[[str], dict[str, np.ndarray]], padding: dict[str, int], longest: int, media: Media
) -> Prepared:
    """A text as one unit: int64 [tokenizer's output, token], padded to a length that follows from the text alone."""
    if not isinstance(media, str):
        raise TypeError(f"a text encoder takes str, not {type(media).__name__}")
    if not media.strip():
        raise MediaError(Reason.EMPTY, "a text without a character")
    rows = tokenize(media)
    length = padded_length(max(len(row) for row in rows.values()), longest)
    unit_KT = np.stack(
        [np.pad(row, (0, length - len(row)), constant_values=padding.get(name, 0)) for name, row in rows.items()]
    )
    return Prepared([unit_KT], np.full((1, 2), np.nan))


def padded_length(num_tokens: int, longest: int) -> int:
    """The smallest of 16, 32, 64, ... and longest that holds the tokens: few shapes, little padding."""
    length = _SHORTEST_TOKENS
    while length < num_tokens:
        length *= 2
    return max(num_tokens, min(length, longest))
