import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from audio_encoding import assert_bytes_of_their_own, chirp, cosine, encode_all, load_encoder
from safetensors.torch import save_file

from features.encoders.base import Audio
from features.encoders.catalogue import make_encoder
from features.errors import EncoderError
from features.reasons import Reason
from features.view import View

PIPELINES = ("WAV2VEC2_BASE", "HUBERT_LARGE", "WAVLM_BASE", "WAV2VEC2_ASR_BASE_960H")
SMALL = {
    "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 4)],
    "encoder_embed_dim": 16,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32,
}
FACTORIES = {"Wav2Vec2": torchaudio.models.wav2vec2_model, "WavLM": torchaudio.models.wavlm_model}


@pytest.fixture(autouse=True)
def small_pipelines(monkeypatch, tmp_path) -> None:
    """torchaudio's own pipelines with few and small layers, and an empty cache of weights."""
    for name in PIPELINES:
        bundle = getattr(torchaudio.pipelines, name)
        monkeypatch.setattr(bundle, "_params", {**bundle._params, **SMALL})
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


def random_state(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    bundle = getattr(torchaudio.pipelines, name)
    return FACTORIES[bundle._model_type](**bundle._params).state_dict()


def fill_cache(name: str, state: dict[str, torch.Tensor]) -> Path:
    """The weights of a pipeline as torchaudio keeps them."""
    path = Path(torch.hub.get_dir(), "checkpoints", getattr(torchaudio.pipelines, name)._path)
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


def documented(name: str, clip: Audio) -> list[np.ndarray]:
    """What torchaudio's documentation of its pipelines does, with the weights in its cache; layer by layer."""
    model = getattr(torchaudio.pipelines, name).get_model(dl_kwargs={"weights_only": True})
    with torch.inference_mode():
        layers, _ = model.extract_features(torch.from_numpy(clip.wave_T)[None])
    return [layer[0].numpy() for layer in layers]


@pytest.mark.parametrize("name", PIPELINES[:3])
def test_torchaudio_gives_what_the_pipeline_gives(name):
    fill_cache(name, random_state(name))
    clip = chirp(1_003)
    expected = documented(name, clip)
    (last,) = encode_all(load_encoder(f"torchaudio:{name}"), clip)
    assert last.vectors_TD.shape == expected[-1].shape == (48, 16)
    assert cosine(last.vectors_TD, expected[-1]) >= 0.999999
    (first,) = encode_all(load_encoder(f"torchaudio:{name}", layer=1), clip)
    assert cosine(first.vectors_TD, expected[0]) >= 0.999999
    assert cosine(first.vectors_TD, last.vectors_TD) < 0.999


def test_torchaudio_takes_fine_tuned_pipelines_without_their_letters():
    state = random_state("WAV2VEC2_ASR_BASE_960H")
    unused = torch.zeros(3, 16)  # rows of the published file that torchaudio leaves out
    state["aux.weight"] = torch.cat([state["aux.weight"][:1], unused, state["aux.weight"][1:]])
    state["aux.bias"] = torch.cat([state["aux.bias"][:1], unused[:, 0], state["aux.bias"][1:]])
    fill_cache("WAV2VEC2_ASR_BASE_960H", state)
    clip = chirp(800)
    (outcome,) = encode_all(load_encoder("torchaudio:WAV2VEC2_ASR_BASE_960H"), clip)
    assert cosine(outcome.vectors_TD, documented("WAV2VEC2_ASR_BASE_960H", clip)[-1]) >= 0.999999


def test_torchaudio_takes_a_weights_file_and_tells_weights_apart(tmp_path):
    state = random_state("WAVLM_BASE")
    in_cache = load_encoder("torchaudio:WAVLM_BASE", weights=str(fill_cache("WAVLM_BASE", state)))
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "wavlm.safetensors")
    named = load_encoder("torchaudio:WAVLM_BASE", weights=str(tmp_path / "wavlm.safetensors"))
    a, b = (encode_all(encoder, chirp(900))[0].vectors_TD for encoder in (in_cache, named))
    assert a.tobytes() == b.tobytes()
    definitions = [encoder.definition() for encoder in (in_cache, named)]
    assert definitions[0]["weights_digest"] != definitions[1]["weights_digest"]
    assert definitions[0]["settings"] == definitions[1]["settings"] == {"layer": 3}


def test_torchaudio_frames_have_the_interval_that_their_convolutions_see():
    fill_cache("HUBERT_LARGE", random_state("HUBERT_LARGE"))
    encoder = load_encoder("torchaudio:HUBERT_LARGE")
    assert encoder.about == {"rate_hz": 16_000, "dim": 16, "vectors_hz": 800.0}
    (outcome,) = encode_all(encoder, Audio(chirp(145).wave_T, 16_000, start_s=2.0))
    assert np.allclose(outcome.times_T2[:2], [[2.0, 2 + 45 / 16_000], [2 + 20 / 16_000, 2 + 65 / 16_000]])
    assert len(outcome.times_T2) == len(outcome.vectors_TD) == 6
    (short,) = encode_all(encoder, chirp(7))
    assert short.times_T2.tolist() == [[0.0, 7 / 16_000]]


def test_torchaudio_bytes_depend_on_the_clip_alone():
    fill_cache("WAV2VEC2_BASE", random_state("WAV2VEC2_BASE"))
    clips = [chirp(num_samples) for num_samples in (1_600, 700, 1_234)]
    assert_bytes_of_their_own(load_encoder("torchaudio:WAV2VEC2_BASE"), clips)


def test_torchaudio_rejects_empty_and_broken_clips_alone():
    fill_cache("WAV2VEC2_BASE", random_state("WAV2VEC2_BASE"))
    broken = [Audio(np.empty(0, np.float32), 16_000), Audio(np.full(800, np.nan, np.float32), 16_000)]
    empty, nan, good = encode_all(load_encoder("torchaudio:WAV2VEC2_BASE"), *broken, chirp(800))
    assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
    assert np.isfinite(good.vectors_TD).all()


def test_torchaudio_says_where_missing_weights_belong_and_downloads_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("socket.socket", None)  # whoever opens one fails
    path = tmp_path / "hub/checkpoints/hubert_fairseq_large_ll60k.pth"
    encoder = make_encoder(View(name="sound", input="audio", encoder="torchaudio:HUBERT_LARGE"))
    for ask in (encoder.definition, lambda: encoder.load("cpu")):
        with pytest.raises(EncoderError, match=re.escape(f"its weights are not in {path}: run 'plait encoders fetch ")):
            ask()


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("torchaudio:HUBERT_BAES", {}, "did you mean 'torchaudio:HUBERT_BASE'"),
        ("torchaudio:hubert_base", {}, "did you mean 'torchaudio:HUBERT_BASE'"),
        ("torchaudio:TACOTRON2_WAVERNN_CHAR_LJSPEECH", {}, "no pipeline of torchaudio that encodes speech"),
        ("torchaudio:WAVLM_BASE", {"layer": 4}, "'layer' .* is 4; it must be at most 3"),
        ("torchaudio:WAVLM_BASE", {"weights": "/none.pth"}, "there is no weights file /none.pth"),
    ],
)
def test_torchaudio_names_what_is_wrong(encoder, options, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(encoder, **options)


def test_torchaudio_refuses_weights_of_another_model(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(EncoderError, match=r"other\.safetensors does not fit: .* from this very pipeline"):
        load_encoder("torchaudio:WAVLM_BASE", weights=str(path))
