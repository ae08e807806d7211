import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import open_clip
import pytest
import soundfile
import torch
from building import build_store
from PIL import Image
from safetensors.torch import load_file, save_file

from features.encoders.base import Audio, Video
from features.encoders.catalogue import make_encoder, query_modalities
from features.encoders.pooling import pool
from features.encoders.session import encode_samples
from features.errors import EncoderError
from features.joint import read_file
from features.store import Store, open_store
from features.view import View

TEXTS = ["a red square", "two dogs on a beach", "rain"]


def picture(seed: int) -> bytes:
    pixels_HWC = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    return file.getvalue()


def tone(pitch_hz: float) -> Audio:
    return Audio(np.sin(2 * np.pi * pitch_hz * np.arange(8000) / 16000).astype(np.float32) / 2, 16000)


def store_of(folder, view: View, media: dict[str, list]) -> Store:
    """A store with one view, of samples named by modality and place, as embed would make it."""
    vectors, definition = {}, {}
    for modality, samples in media.items():
        encoder = make_encoder(replace(view, input=modality))
        encoder.load("cpu")
        if modality == view.input:
            definition = encoder.definition()
        for place, encoded in encode_samples(encoder, enumerate(samples)):
            vectors[f"{modality}{place}"] = pool(encoded.vectors_TD, encoded.times_T2, view.pooling)[0]
    keys = sorted(vectors)
    built = {"vectors": [vectors[key] for key in keys], "dtype": "float32", "input": view.input}
    build_store(folder, [{"key": key} for key in keys], {view.name: built})
    manifest = open_store(folder).manifest
    stored = replace(
        manifest.views[view.name],
        encoder=view.encoder,
        pooling=view.pooling,
        options=view.options,
        weights_digest=definition["weights_digest"],
        definition=definition,
    )
    replace(manifest, views={view.name: stored}).save(folder)
    return open_store(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory, clip_folder) -> Store:
    """An image view of a joint space; among its samples are also vectors of texts, so that a text has a neighbour."""
    view = View(name="photo", input="image", encoder=f"open_clip:{clip_folder}", options={"batch_size": 2})
    media = {"image": [picture(seed) for seed in range(3)], "text": TEXTS}
    return store_of(tmp_path_factory.mktemp("images"), view, media)


def test_a_text_asks_an_image_view_of_a_joint_space(images):
    for place, text in enumerate(TEXTS):
        (best,) = images.nearest("photo", text, k=1).to_pylist()
        assert best["key"] == f"text{place}"
        assert best["score"] == pytest.approx(1, abs=1e-6)
    assert images.nearest("photo", TEXTS, k=1)["query"].to_pylist() == [0, 1, 2]
    assert images.nearest("photo", TEXTS, k=1)["key"].to_pylist() == ["text0", "text1", "text2"]


def test_an_image_asks_an_image_view_as_bytes_as_file_and_as_video(images, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(picture(1))
    for query in (picture(1), path, Video([picture(1)], np.array([0.0]), end_s=1.0)):
        (best,) = images.nearest("photo", query, k=1).to_pylist()
        assert best["key"] == "image1"
        assert best["score"] == pytest.approx(1, abs=1e-6)


def test_a_query_keeps_its_encoder_for_the_next(images, monkeypatch):
    images.nearest("photo", "rain")
    monkeypatch.setattr(open_clip, "create_model_from_pretrained", None)  # whoever loads again fails
    assert images.nearest("photo", "dogs").num_rows == 6


def test_a_sound_asks_an_audio_view_as_file(tmp_path):
    view = View(name="sound", input="audio", encoder="logmel-mfcc", pooling="mean_std", options={"rate_hz": 8000})
    pitches_hz = (200, 500, 1200)
    store = store_of(tmp_path / "store", view, {"audio": [tone(pitch_hz) for pitch_hz in pitches_hz]})
    stereo_TC = np.stack([tone(500).wave_T] * 2, axis=1)
    soundfile.write(tmp_path / "tone.flac", stereo_TC, 16000, subtype="PCM_24")
    (best,) = store.nearest("sound", tmp_path / "tone.flac", k=1).to_pylist()
    assert best["key"] == "audio1"
    assert best["score"] == pytest.approx(1, abs=1e-3)
    with pytest.raises(EncoderError, match="'sound' cannot be asked with text: its encoder 'logmel-mfcc' takes audio;"):
        store.nearest("sound", "a tone")


def test_a_query_is_refused_when_the_weights_are_others(tmp_path, clip_folder):
    folder = tmp_path / "clip"
    folder.mkdir()
    for path in clip_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    view = View(name="photo", input="image", encoder=f"open_clip:{folder}")
    store = store_of(tmp_path / "store", view, {"image": [picture(0)]})
    before = store.views["photo"].weights_digest[:12]
    state = load_file(folder / "open_clip_model.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
    message = f"made with weights {before} of encoder {view.encoder!r}, here are "
    with pytest.raises(EncoderError, match=re.escape(message)):
        store.nearest("photo", "rain")
    assert torch.is_tensor(state["logit_scale"])


def test_a_query_is_refused_when_the_stored_options_are_not_those_of_the_vectors(tmp_path):
    view = View(name="sound", input="audio", encoder="logmel-mfcc", options={"rate_hz": 8000})
    store = store_of(tmp_path, view, {"audio": [tone(200)]})
    manifest = store.manifest
    replace(manifest, views={"sound": replace(store.views["sound"], options={})}).save(tmp_path)
    with pytest.raises(EncoderError, match=r"made with settings \{'rate_hz': 8000\} .* here are \{'rate_hz': 16000\}"):
        open_store(tmp_path).nearest("sound", tone(200))


def test_a_query_that_cannot_be_encoded_says_why(images, tmp_path):
    with pytest.raises(EncoderError, match=r"cannot be encoded for view 'photo': .*not an image"):
        images.nearest("photo", b"no image")
    with pytest.raises(EncoderError, match=r"cannot be encoded for view 'photo': .*without a character"):
        images.nearest("photo", "  ")
    with pytest.raises(EncoderError, match="a query of type dict is no text"):
        images.nearest("photo", ["rain", {}])


@pytest.mark.parametrize(
    ("encoder", "modality", "known"),
    [
        ("open_clip:x", "image", ["image", "video", "text"]),
        ("open_clip:x", "text", ["image", "video", "text"]),
        ("efficientnet-lite0", "video", ["image", "video"]),
        ("transformers:x", "text", ["text"]),
        ("transformers:x", "image", ["image", "video"]),
        ("no-such-encoder", "image", []),
    ],
)
def test_query_modalities_are_those_of_one_space(encoder, modality, known):
    assert query_modalities(encoder, modality) == known


def test_read_file_goes_by_the_suffix(tmp_path):
    (tmp_path / "a.txt").write_text("größer", encoding="utf-8")
    assert read_file(tmp_path / "a.txt") == "größer"
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(EncoderError, match=r"a\.wav cannot be read as audio"):
        read_file(tmp_path / "a.wav")
    with pytest.raises(EncoderError, match=r"a\.mp4 is no text, image or audio"):
        read_file(tmp_path / "a.mp4")
