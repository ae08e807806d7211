import logging
import pickle
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from test_encoders_text import encode
from tokenizers import Tokenizer

from features.encoders.base import Encoder
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.errors import EncoderError
from features.reasons import Reason
from features.view import Pooling, View

TEXTS = ["seven", "ate, uh, for too", "Größe 12,5 km — naïve façade; 北京 🙂", "no limit " * 500, "\u200b"]
FOLDER = Path(find_spec("wordllama").origin).parent


def load(pooling: Pooling = "mean") -> Encoder:
    made = make_encoder(View(name="text", input="text", encoder="wordllama", pooling=pooling))
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def wordllama() -> Encoder:
    return load()


@pytest.fixture(scope="module")
def reference() -> Iterator[object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "basicConfig", lambda **_: None)  # it is called when the package is imported
        from wordllama import WordLlamaInference

    embedding = load_file(FOLDER / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return WordLlamaInference(embedding, tokenizer)


def test_wordllama_gives_what_its_own_library_gives(wordllama, reference):
    vectors = np.concatenate(encode(wordllama, TEXTS))
    assert vectors.shape == (len(TEXTS), wordllama.dim) == (len(TEXTS), 256)
    assert np.allclose(vectors, reference.embed(TEXTS), rtol=1e-4, atol=1e-6)


@given(st.text(min_size=1, max_size=80).filter(str.strip))
def test_wordllama_gives_what_its_own_library_gives_for_any_text(wordllama, reference, text):
    assert np.allclose(encode(wordllama, [text])[0], reference.embed([text]), rtol=1e-4, atol=1e-6)


def test_wordllama_bytes_depend_on_the_text_alone(wordllama):
    alone = [encode(wordllama, [text])[0].tobytes() for text in TEXTS]
    order = np.random.default_rng(0).integers(0, len(TEXTS), 150)
    crowded = encode(wordllama, [TEXTS[index] for index in order])
    assert [vector.tobytes() for vector in crowded] == [alone[index] for index in order]


@pytest.mark.parametrize("pooling", ["sequence", "mean_std"])
def test_wordllama_gives_each_token_a_vector_unless_a_mean_is_asked_for(wordllama, reference, pooling):
    sequences = encode(load(pooling), TEXTS)
    for text, vectors_TD, mean in zip(TEXTS, sequences, encode(wordllama, TEXTS), strict=True):
        ids = reference.tokenize(text)[0].ids
        assert np.array_equal(vectors_TD, reference.embedding[ids])
        assert np.allclose(vectors_TD.mean(axis=0), mean, rtol=1e-4, atol=1e-6)


def test_wordllama_rejects_a_text_without_a_character(wordllama):
    outcomes = [outcome for _, outcome in encode_samples(wordllama, enumerate([" \n", "one"]))]
    assert outcomes[0].reason == Reason.EMPTY
    assert outcomes[1].vectors_TD.tobytes() == encode(wordllama, ["one"])[0].tobytes()
    with pytest.raises(TypeError, match="takes str, not bytes"):
        wordllama.prepare(b"one")


def test_wordllama_defines_itself_by_its_weights_and_what_is_kept_of_tokens(wordllama):
    definition = wordllama.definition()
    assert definition["weights_digest"].startswith("64b47a2d")
    assert pickle.loads(pickle.dumps(wordllama)).definition() == definition
    assert load("max").definition()["settings"] != definition["settings"]


def test_wordllama_has_no_options():
    with pytest.raises(EncoderError, match="option 'size' of encoder 'wordllama' is unknown: it has no options"):
        make_encoder(View(name="text", input="text", encoder="wordllama", options={"size": 1}))
