"""WordLlama, static embeddings of tokens, with the weights of the package wordllama: 256 numbers for a text, the mean
over its tokens, or 256 for each of them."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder
from features.encoders.options import read_options
from features.encoders.sentences import has_token_vectors
from features.encoders.tokens import take_text, times_of_tokens
from features.encoders.weights import check_pinned, read_state
from features.errors import EncoderError
from features.reasons import MediaError, Reason
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

WORDLLAMA_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
_WEIGHTS_FILE = "weights/l2_supercat_256.safetensors"
_TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
_FILES = {
    _WEIGHTS_FILE: WORDLLAMA_SHA256,
    _TOKENIZER_FILE: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
_DIM = 256
_BATCH_SIZE = 64  # nothing is left to the model, so this is only how many vectors are handed on at a time


def make_wordllama(model: str, view: View) -> Encoder:
    """Encoder of texts of any length, like WordLlamaInference.embed with the same weights."""
    read_options(view)
    is_each = has_token_vectors(view)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"text"}),
        batch_size=1 if is_each else _BATCH_SIZE,  # texts have any number of tokens
        settings={"tokens": "each" if is_each else "mean"},
        weights_digest=_digest,
        modules=("wordllama_texts",),
        libraries=("tokenizers",),
        bring=partial(_bring, is_each),
        about={"dim": _DIM},
        is_on_cpu=True,
    )


def _digest() -> str:
    _find()
    return WORDLLAMA_SHA256


def _bring(is_each: bool, device: str) -> Network:
    from tokenizers import Tokenizer

    folder = _find()
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    (embedding,) = read_state(folder / _WEIGHTS_FILE).values()
    embedding_VD = embedding.float().numpy()

    def prepare(media: Media) -> Prepared:
        """The tokens' vectors are the unit, or their mean: to look them up is all there is to do."""
        encoding = tokenizer.encode(take_text(media), add_special_tokens=False)
        ids_T = np.array(encoding.ids, np.int64)
        if not ids_T.size:
            raise MediaError(Reason.EMPTY, "a text without a token: the tokenizer drops all of it")
        vectors_TD = embedding_VD[np.minimum(ids_T, len(embedding_VD) - 1)]  # as the library does with rarer tokens
        if is_each:
            return Prepared([vectors_TD], times_of_tokens(media, np.array(encoding.offsets, np.int64)))
        return Prepared([vectors_TD.sum(axis=0) / np.float32(len(ids_T))], np.full((1, 2), np.nan))

    return Network(prepare, _as_it_is, _DIM)


def _as_it_is(vectors: Tensor) -> Tensor:
    return vectors


def _find() -> Path:
    """The package's folder, with its files checked."""
    folder = _package_folder()
    for file, sha256 in _FILES.items():
        check_pinned(folder / file, sha256, "pip install -e '.[weights]'")
    return folder


def _package_folder() -> Path:
    """Where the package is. It is not imported: that would set up the process's log."""
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise EncoderError("the package wordllama is missing: pip install -e '.[weights]'")
    return Path(spec.origin).parent
