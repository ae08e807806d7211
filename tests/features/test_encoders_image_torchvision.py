import re

import numpy as np
import pytest
import torch
from image_encoding import assert_company_leaves_bytes, cosine, decoded, load, pictures, vectors, video_of
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor

from features.encoders.catalogue import make_encoder
from features.encoders.torchvision_weights import look_up
from features.encoders.weights import fetching
from features.errors import EncoderError
from features.view import View

SMALL = "shufflenet_v2_x0_5"


def save_model(path, name=SMALL, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    model = get_model(name, weights=None, **changes).eval()
    save_file(model.state_dict(), path) if path.suffix == ".safetensors" else torch.save(model.state_dict(), path)
    return model


def make(encoder: str, modality: str = "image", **options):
    return make_encoder(View(name="v", input=modality, encoder=encoder, options=options))


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_torchvision_gives_what_its_feature_extractor_gives_before_the_classifier(tmp_path, file):
    model = save_model(tmp_path / file)
    encoder = load(f"torchvision:{SMALL}", weights=str(tmp_path / file), batch_size=2)
    preset = get_model_weights(SMALL).DEFAULT.transforms()
    image = pictures(1)[0]
    with torch.inference_mode():
        pixels_BCHW = preset(decoded(image))[None]
        expected = create_feature_extractor(model, {"mean": "vector"})(pixels_BCHW)["vector"].numpy()
    (unit,) = encoder.prepare(image).units
    assert np.array_equal(unit, pixels_BCHW[0].numpy())
    assert encoder.about == {"size_px": 224}
    assert encoder.dim == expected.shape[1]
    assert cosine(vectors(encoder, image), expected) > 0.9999


def test_torchvision_bytes_depend_on_the_image_alone(tmp_path):
    save_model(tmp_path / "weights.pth")
    encoder = load(f"torchvision:{SMALL}", modality="video", weights=str(tmp_path / "weights.pth"), batch_size=2)
    images = pictures(3)
    assert_company_leaves_bytes(encoder, [*images, video_of(images, 4.0)])


@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5", "mobilenet_v3_small"])
def test_torchvision_classifier_of_its_vectors_is_the_models(tmp_path, name):
    model = save_model(tmp_path / "weights.pth", name)
    body, dim = look_up(name, "x", file=str(tmp_path / "weights.pth"), of_videos=False).bring_body()
    image = torch.randn(1, 3, 64, 64)
    seen = []
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
    layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(image)
        vector = body.eval()(image)
    pooled = seen[0] if seen[0].ndim == 2 else seen[0].mean(dim=(2, 3))
    assert vector.shape == (1, dim)
    assert torch.allclose(vector, pooled, atol=1e-5)


def test_torchvision_reads_densenets_as_its_files_call_their_layers(tmp_path):
    state = save_model(tmp_path / "new.pth", "densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor for name, tensor in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    bodies = [
        look_up("densenet121", "x", file=str(tmp_path / file), of_videos=False).bring_body()[0]
        for file in ("old.pth", "new.pth")
    ]
    assert all(torch.equal(*pair) for pair in zip(*(body.state_dict().values() for body in bodies), strict=True))


def test_torchvision_takes_a_model_trained_on_other_classes(tmp_path):
    save_model(tmp_path / "weights.pth", num_classes=7)
    assert vectors(load(f"torchvision:{SMALL}", weights=str(tmp_path / "weights.pth")), pictures(1)[0]).shape == (
        1,
        1024,
    )


def test_torchvision_refuses_weights_that_leave_a_layer_random(tmp_path):
    state = save_model(tmp_path / "weights.pth").state_dict()
    del state["conv1.0.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match=r"weights.pth does not fit.*conv1.0.weight.*torchvision's shufflenet"):
        load(f"torchvision:{SMALL}", weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("encoder", "modality", "message"),
    [
        ("torchvision:resnet5O", "image", "did you mean 'torchvision:resnet50'"),
        ("torchvision:r3d_18", "video", "did you mean 'torchvision-video:r3d_18'"),
        ("torchvision-video:resnet50", "video", "did you mean 'torchvision:resnet50'"),
        ("torchvision:resnet50/V3", "image", "has no weights 'V3', only IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision-video:r3d_18", "image", "takes video, not image"),
    ],
)
def test_torchvision_names_what_there_is(encoder, modality, message):
    with pytest.raises(EncoderError, match=message):
        make(encoder, modality)


def test_torchvision_entry_of_the_weights_is_part_of_the_definition():
    entries = [look_up(name, "x", file="", of_videos=False).entry for name in ("resnet50", "resnet50/IMAGENET1K_V1")]
    assert entries == ["IMAGENET1K_V2", "IMAGENET1K_V1"]


def test_torchvision_takes_weights_from_the_cache_of_torch_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    monkeypatch.setattr("socket.socket", None)  # whoever opens one fails
    with pytest.raises(
        EncoderError, match=r"checkpoints/shufflenet\S+.pth: run 'plait encoders fetch torchvision:shuff"
    ):
        make(f"torchvision:{SMALL}").definition()
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / get_model_weights(SMALL).DEFAULT.url.rpartition("/")[2]
    save_model(file)
    assert load(f"torchvision:{SMALL}").definition()["weights_digest"]


@pytest.mark.parametrize("server", ["absent", "other bytes"])
def test_torchvision_fetches_into_the_cache_only_what_has_the_digest_in_its_name(tmp_path, monkeypatch, server):
    (tmp_path / "shufflenetv2_x0.5-f707e7126e.pth").write_bytes(b"other")
    url = (tmp_path if server == "other bytes" else tmp_path / "none").as_uri() + "/shufflenetv2_x0.5-f707e7126e.pth"
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(get_model_weights(SMALL).DEFAULT.value, "url", url)
    with fetching(), pytest.raises(EncoderError, match=r"cannot be downloaded \((URLError|RuntimeError)\)"):
        make(f"torchvision:{SMALL}").definition()
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]
