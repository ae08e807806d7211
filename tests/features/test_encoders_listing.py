import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers.util.misc import ORIGINAL_TRANSFORMER_MODELS
from transformers import BertConfig, BertModel, BertTokenizer

from features.encoders.catalogue import FAMILIES
from features.encoders.listing import describe_encoder, fetch_weights, list_encoders, views_of
from features.encoders.sentences import hub_name
from features.errors import EncoderError
from features.sample import MODALITIES
from features.view import View


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=6, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_list_encoders_tells_every_family_and_what_it_takes():
    listed = {listing.name.partition(":")[0]: listing for listing in list_encoders()}
    assert list(listed) == list(FAMILIES)
    for listing in listed.values():
        assert set(listing.inputs) <= set(MODALITIES)
        assert listing.install.startswith("pip install ")
        assert (listing.weights == "by name") == (":" in listing.name)
    assert (listed["minilm"].weights, listed["minilm"].about) == ("here", {"text": {"max_tokens": 256, "dim": 384}})
    assert (listed["logmel-mfcc"].weights, listed["logmel-mfcc"].weights_digest) == ("none", None)


def test_list_encoders_tells_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    listed = describe_encoder("wordllama")
    assert (listed.is_installed, listed.weights, listed.about) == (False, "unknown", {})
    assert listed.install == "pip install -e '.[weights]'"


def test_describe_encoder_tells_the_digest_that_a_view_would_pin(bert_folder):
    listed = describe_encoder(f"sentence-transformers:{bert_folder}")
    view = View(
        name="v", input="text", encoder=f"sentence-transformers:{bert_folder}", weights_digest=listed.weights_digest
    )
    assert (listed.weights, listed.cure, listed.about) == ("here", None, {"text": {"max_tokens": 32}})
    assert fetch_weights(view) == listed.weights_digest


def test_describe_encoder_tells_what_brings_missing_weights():
    listed = describe_encoder("sentence-transformers:nobody/none")
    assert (listed.weights, listed.weights_digest) == ("missing", None)
    assert "run 'plait encoders fetch sentence-transformers:nobody/none'" in listed.cure


def test_sentence_transformers_model_without_an_owner_is_the_librarys_own(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", None)
    cached = tmp_path / "models--sentence-transformers--all-tiny"
    shutil.copytree(bert_folder, cached / "snapshots" / "0123")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123")

    listed = describe_encoder("sentence-transformers:all-tiny")
    assert (listed.weights, listed.about) == ("here", {"text": {"max_tokens": 32}})
    assert (
        listed.weights_digest == describe_encoder("sentence-transformers:sentence-transformers/all-tiny").weights_digest
    )
    assert fetch_weights(views_of("sentence-transformers:all-tiny")[0]) == listed.weights_digest
    missing = describe_encoder("sentence-transformers:bert-base-uncased")
    assert "run 'plait encoders fetch sentence-transformers:bert-base-uncased'" in str(missing.cure)


def test_hub_name_adds_the_owner_where_the_library_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_name("all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert hub_name("bert-base") == "sentence-transformers/bert-base"
    for name in (*ORIGINAL_TRANSFORMER_MODELS, "BERT-base-uncased", "somebody/all-MiniLM-L6-v2", ".", "~"):
        assert hub_name(name) == name
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert hub_name("mine") == "mine"


@pytest.mark.parametrize("name", ["minilmm", "minilm:other", "", "timm:resnet5O"])
def test_describe_encoder_refuses_what_it_does_not_know(name):
    with pytest.raises(EncoderError, match=r"^encoder .*: did you mean"):
        describe_encoder(name)


def test_views_of_an_encoder_are_one_a_modality():
    assert [view.input for view in views_of("transformers:x")] == list(FAMILIES["transformers"].makers)


def test_fetch_weights_refuses_a_package_that_is_damaged(monkeypatch, tmp_path):
    for folder, file in (
        ("weights", "l2_supercat_256.safetensors"),
        ("tokenizers", "l2_supercat_tokenizer_config.json"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"damaged")
    monkeypatch.setattr("features.encoders.wordllama_texts._package_folder", lambda: tmp_path)
    with pytest.raises(
        EncoderError, match=r"not the pinned 64b47a2d.*: pip install -e '.\[weights\]' --force-reinstall"
    ):
        fetch_weights(View(name="v", input="text", encoder="wordllama"))


@pytest.mark.parametrize(
    ("module", "pinned"),
    [
        ("efficientnet", "EFFICIENTNET_SHA256"),
        ("silero", "SILERO_SHA256"),
        ("resemblyzer", "RESEMBLYZER_SHA256"),
        ("minilm", "_FILES"),
        ("wordllama_texts", "_FILES"),
    ],
)
def test_packaged_weights_that_are_not_the_pinned_ones_are_told_without_loading(monkeypatch, module, pinned):
    names = {"efficientnet": "efficientnet-lite0", "silero": "silero-vad", "wordllama_texts": "wordllama"}
    made = importlib.import_module(f"features.encoders.{module}")
    there = getattr(made, pinned)
    monkeypatch.setattr(made, pinned, dict.fromkeys(there, "00") if isinstance(there, dict) else "00")
    listed = describe_encoder(names.get(module, module))
    assert (listed.weights, listed.weights_digest) == ("missing", None)
    assert "not the pinned 00: pip install" in listed.cure


def test_fetch_weights_refuses_others_than_those_that_are_pinned():
    view = View(name="v", input="text", encoder="wordllama", weights_digest="0" * 64)
    with pytest.raises(EncoderError, match="view 'v' pins weights_digest 000"):
        fetch_weights(view)


def test_fetch_weights_needs_no_device_that_the_view_is_for():
    view = View(name="v", input="text", encoder="wordllama", options={"precision": "float16"})
    assert fetch_weights(view) == describe_encoder("wordllama").weights_digest
    assert fetch_weights(View(name="v", input="audio", encoder="logmel-mfcc")) is None
