"""Texts to one vector each or one a token, by any sentence-transformers or transformers model the user has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.tokens import TokenEncoder, check_vocabulary, make_tokenize, prepare_text
from features.encoders.weights import digest_weights, find_folder, loading, local_folder, read_settings
from features.errors import EncoderError
from features.reasons import MediaError
from features.view import View

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

# On one core 16 texts at a time take an eighth less time each than 8, and 32 hardly less; but the last batch of a run,
# or a single query, costs as much as a full one.
_BATCH_SIZE = 16  # of texts of a common length
_BATCH_TOKENS = 256  # in a batch: with fewer a model takes longer for each, with more more places stay empty
_POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken"}  # of the library, by the option tokens
_LIMITS = {"config.json": "max_position_embeddings", "tokenizer_config.json": "model_max_length"}

_MASKED = "plait_sdpa"  # as transformers calls a way of attention
_UNUSED = "pooler."  # weights of a layer behind the tokens' vectors, which many checkpoints leave out

Load = Callable[[Path], "SentenceTransformer"]
"""Brings a local folder's model into memory."""


def make_sentence_transformer(model: str, view: View) -> Encoder:
    """A sentence-transformers model with the pooling that it declares."""
    return _make_from_folder(hub_name(model), view, load_sentence_transformer)


def hub_name(model: str) -> str:
    """The model under the name that sentence-transformers asks the hub for: without an owner it is the library's own,
    unless it is one of those of transformers that have none."""
    if "/" in model or model.startswith((".", "~")) or Path(model).is_dir() or _has_no_owner(model):
        return model
    return f"sentence-transformers/{model}"


def _has_no_owner(model: str) -> bool:
    """Whether the library lists the model as one without an owner; asked of its source, as importing takes seconds."""
    spec = find_spec("sentence_transformers")
    if spec is None or spec.origin is None:
        return False
    source = Path(spec.origin).with_name("util") / "misc.py"
    return f'\n    "{model.lower()}",\n' in source.read_text(encoding="utf-8")


def make_transformer(model: str, view: View) -> Encoder:
    """A transformers text model; a text's vector is made of its tokens' last hidden states as the option tokens says:
    their mean, the first one (cls) or the last one."""
    where = f"view {view.name!r}: option 'tokens' of encoder {view.encoder!r}"
    if has_token_vectors(view):
        if "tokens" in view.options:
            raise EncoderError(f"{where} is for pooling 'mean': with {view.pooling!r} every token has a vector")
        return _make_from_folder(model, view, partial(_load_transformer, "mean"))
    tokens = read_options(view, batch_tokens=_BATCH_TOKENS, tokens="mean")["tokens"]
    if tokens not in _POOLING:
        raise EncoderError(f"{where} is {tokens!r}; it must be one of {', '.join(_POOLING)}")
    return _make_from_folder(model, view, partial(_load_transformer, _POOLING[tokens]), tokens=tokens)


def _make_from_folder(model: str, view: View, load: Load, *, tokens: str | None = None) -> Encoder:
    find = partial(find_folder, model, view.encoder)
    return text_encoder(
        view,
        bring=partial(_bring_folder, find, load, has_token_vectors(view)),
        weights_digest=partial(_folder_digest, find, view.encoder),
        about=_about(local_folder(model)),
        tokens=tokens,
    )


def has_token_vectors(view: View) -> bool:
    """Whether each token of a text has a vector of its own: a mean is the model's affair, all else pools tokens."""
    return view.pooling != "mean"


def text_encoder(
    view: View,
    *,
    bring: Callable[[str], Network],
    weights_digest: Callable[[], str],
    about: dict[str, Any],
    modules: tuple[str, ...] = (),
    tokens: str | None = None,
) -> Encoder:
    """The encoder of a text view; modules: those that compute it beside this one; tokens: the option, if it has it."""
    is_each = has_token_vectors(view)
    options = {} if tokens is None else {"tokens": tokens}
    encoder = TokenEncoder if is_each else NetworkEncoder
    return encoder(
        name=view.encoder,
        inputs=frozenset({"text"}),
        batch_size=_BATCH_SIZE,
        batch_tokens=read_options(view, batch_tokens=_BATCH_TOKENS, **options)["batch_tokens"],
        settings={"tokens": "each"} if is_each else options,
        weights_digest=weights_digest,
        modules=("sentences", *modules),
        libraries=("sentence-transformers", "transformers", "tokenizers", "numba"),
        bring=bring,
        about=about,
    )


def _about(folder: Path | None) -> dict[str, Any]:
    """How many tokens of a text the model in a folder reads, as far as its settings tell."""
    limits = [] if folder is None else [read_settings(folder / file).get(name) for file, name in _LIMITS.items()]
    known = [limit for limit in limits if isinstance(limit, int)]
    return {"max_tokens": min(known)} if known else {}


def _folder_digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring_folder(find: Callable[[], Path], load: Load, is_each: bool, device: str) -> Network:
    folder = find()
    with loading(folder, "text model"):
        model = load(folder)
        check_vocabulary(model.tokenizer, folder)
    _check_whole(model, folder)
    return sentence_network(model, device, has_token_vectors=is_each)


def _check_whole(model: SentenceTransformer, folder: Path) -> None:
    """Raise EncoderError if weights are missing: transformers makes random ones up, and only logs it."""
    from transformers import PreTrainedModel

    bodies = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    weights = (named for body in bodies for named in body.named_parameters())
    # The library's own mark of what came from the files; while it loads it tells by it what is to be made up.
    missing = sorted(name for name, weight in weights if not getattr(weight, "_is_hf_initialized", False))
    if lost := [name for name in missing if not name.startswith(_UNUSED)]:
        raise EncoderError(f"{folder} lacks weights of {lost[0]} ({len(lost)} in all): save the whole model there")


def load_sentence_transformer(folder: Path) -> SentenceTransformer:
    """The model of a local folder, without asking any hub."""
    from sentence_transformers import SentenceTransformer

    _silence()
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _load_transformer(pooling: str, folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    _silence()
    local = {"local_files_only": True}
    tokens = Transformer(str(folder), model_kwargs=local, processor_kwargs=local, config_kwargs=local)
    return SentenceTransformer(modules=[tokens, Pooling(tokens.get_embedding_dimension(), pooling)], device="cpu")


def _mask_always(model: SentenceTransformer) -> None:
    """Let the model take the mask of its texts also where none of a batch is padded.

    Else a GPU may take another kernel for attention then, and a text other bytes for the company that it is in; and
    whether any is padded the GPU would be asked, and waited for, before its work is laid out.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import sdpa_mask

    def mask(*args: Any, **kwargs: Any) -> Any:
        return sdpa_mask(*args, **{**kwargs, "allow_is_bidirectional_skip": False})

    AttentionMaskInterface.register(_MASKED, mask)
    AttentionInterface.register(_MASKED, AttentionInterface()["sdpa"])
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and part.config._attn_implementation == "sdpa":
            part.config._attn_implementation = _MASKED


def _silence() -> None:
    """No progress bar: it would run through the stage's own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def sentence_network(model: SentenceTransformer, device: str, *, has_token_vectors: bool) -> Network:
    """The model with its own tokenizer, prompt and pooling, fed with texts padded to few lengths.

    has_token_vectors: it gives a vector for each row of a text's unit, not one for the text.
    """
    from torch import Tensor, from_numpy

    settle(model, device)
    if device != "cpu":
        _mask_always(model)
    prompt = model.prompts.get(model.default_prompt_name)
    example = model.preprocess(["probe"], prompt=prompt)
    names = [name for name, value in example.items() if isinstance(value, Tensor)]
    constants = {name: value for name, value in example.items() if name not in names}
    wanted = "token_embeddings" if has_token_vectors else "sentence_embedding"

    def forward(units_BKT: Tensor) -> Tensor:
        inputs = {name: units_BKT[:, index] for index, name in enumerate(names)}
        vectors: Tensor = model({**constants, **inputs})[wanted]
        return vectors

    tokenize = make_tokenize(model, prompt, names, has_token_vectors)
    if tokenize is None:
        where = f"the tokenizer of {model.tokenizer.name_or_path}"
        raise EncoderError(f"{where} does not tell which tokens are the text's own: use the pooling mean")
    padding_K = [model.tokenizer.pad_token_id or 0 if name == "input_ids" else 0 for name in names]
    padding_K += [0] * has_token_vectors
    longest = model.max_seq_length
    prepare = partial(prepare_text, tokenize, padding_K, longest, has_token_vectors)
    dim = model[0].get_embedding_dimension() if has_token_vectors else model.get_embedding_dimension()
    units: list[np.ndarray] = []
    with suppress(MediaError):  # of a vocabulary without such letters
        units += prepare("probe").units
    # With padding, so that a mask is at work in it as well.
    probe = from_numpy(np.column_stack([units[0], padding_K]))[None] if units else None
    return Network(prepare, forward, dim, model, probe=probe)
