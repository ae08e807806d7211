from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_encoding import assert_bytes_of_their_own, chirp, cosine, encode_all, load_encoder
from building import build_store
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    RobertaTokenizer,
    WhisperConfig,
    WhisperModel,
)

from features.encoders.base import Audio
from features.encoders.catalogue import query_modalities
from features.encoders.clap_sounds import fill, spread
from features.errors import EncoderError
from features.reasons import Reason
from features.store import open_store

RATE_HZ = 8_000
SECONDS = 1  # that the small models hear at once
MELS = {"feature_size": 16, "sampling_rate": RATE_HZ, "hop_length": 80, "max_length_s": SECONDS}
MELS |= {"fft_window_size": 256, "frequency_max": RATE_HZ // 2}
TEXTS = ["a dog barks", "rain", "rain " * 100]


def save_clap(folder: Path, truncation: str) -> Path:
    """An untrained CLAP of the smallest size, with or without the fusion of long clips."""
    is_fused = truncation == "fusion"
    audio = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 2, "patch_stride": [2, 2]}
    audio |= {"patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"num_hidden_layers": 2, "enable_fusion": is_fused}
    text = {"vocab_size": 262, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 37, "max_position_embeddings": 66}
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=12))
    model.save_pretrained(folder)
    ClapFeatureExtractor(**MELS, truncation=truncation).save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)] + ["Ġ"]
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    vocab = {word: index for index, word in enumerate(words)}
    RobertaTokenizer(vocab=vocab, merges=[], model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: save_clap(tmp_path_factory.mktemp(name), name) for name in ("rand_trunc", "fusion")}


def documented_sound(folder: Path, clip: Audio) -> np.ndarray:
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    inputs = extractor(clip.wave_T, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        return ClapModel.from_pretrained(folder).get_audio_features(**inputs).pooler_output[0].numpy()


@pytest.mark.parametrize("num_samples", [1_500, 3_999, 8_000])
@pytest.mark.parametrize("kind", ["rand_trunc", "fusion"])
def test_clap_of_a_sound_gives_what_the_model_gives(folders, kind, num_samples):
    encoder = load_encoder(f"clap:{folders[kind]}")
    clip = chirp(num_samples, RATE_HZ)
    (outcome,) = encode_all(encoder, clip)
    assert outcome.vectors_TD.shape == (1, encoder.dim) == (1, 12)
    assert encoder.about == {"rate_hz": RATE_HZ, "dim": 12}
    assert outcome.times_T2.tolist() == [[0, num_samples / RATE_HZ]]
    assert cosine(outcome.vectors_TD, documented_sound(folders[kind], clip)) >= 0.999999


def test_clap_of_a_text_gives_what_the_model_gives(folders):
    folder = folders["rand_trunc"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    outcomes = encode_all(load_encoder(f"clap:{folder}", "text"), *TEXTS)
    for text, outcome in zip(TEXTS, outcomes, strict=True):
        inputs = tokenizer([text], truncation=True, return_tensors="pt")
        with torch.inference_mode():
            expected = ClapModel.from_pretrained(folder).get_text_features(**inputs).pooler_output[0].numpy()
        assert outcome.vectors_TD.shape == (1, 12)
        assert cosine(outcome.vectors_TD, expected) >= 0.999999


def test_clap_hears_a_long_clip_in_stretches_that_cover_it(folders):
    encoder = load_encoder(f"clap:{folders['rand_trunc']}")
    clip = chirp(20_000, RATE_HZ)
    (outcome,) = encode_all(encoder, Audio(clip.wave_T, RATE_HZ, start_s=5.0))
    assert outcome.times_T2.tolist() == [[5.0, 6.0], [5.75, 6.75], [6.5, 7.5]]
    for (start_s, end_s), vector_D in zip(outcome.times_T2 - 5, outcome.vectors_TD, strict=True):
        part = Audio(clip.wave_T[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)], RATE_HZ)
        assert cosine(vector_D, documented_sound(folders["rand_trunc"], part)) >= 0.999999


@pytest.mark.parametrize(("modality", "kind"), [("audio", "rand_trunc"), ("audio", "fusion"), ("text", "fusion")])
def test_clap_bytes_depend_on_the_sample_alone(folders, modality, kind):
    clips = [chirp(num_samples, RATE_HZ) for num_samples in (8_000, 700, 20_000)]
    media = clips if modality == "audio" else TEXTS
    assert_bytes_of_their_own(load_encoder(f"clap:{folders[kind]}", modality, batch_size=3), media)


def test_clap_rejects_empty_and_broken_samples_alone(folders):
    broken = [Audio(np.empty(0, np.float32), RATE_HZ), Audio(np.full(800, np.nan, np.float32), RATE_HZ)]
    empty, nan, good = encode_all(load_encoder(f"clap:{folders['rand_trunc']}"), *broken, chirp(800, RATE_HZ))
    assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
    assert np.isfinite(good.vectors_TD).all()
    blank, good = encode_all(load_encoder(f"clap:{folders['rand_trunc']}", "text"), " \n", "rain")
    assert blank.reason == Reason.EMPTY
    assert np.linalg.norm(good.vectors_TD) == pytest.approx(1, abs=1e-6)


def test_a_text_asks_a_view_of_sounds(folders, tmp_path):
    """Among the samples are also vectors of texts, so that a text has a neighbour."""
    name = f"clap:{folders['rand_trunc']}"
    assert query_modalities(name, "audio") == ["audio", "text"]
    sounds, texts = load_encoder(name), load_encoder(name, "text")
    clips = [chirp(4_000, RATE_HZ), chirp(8_000, RATE_HZ)]
    media = {"sound0": (sounds, clips[0]), "sound1": (sounds, clips[1]), "text0": (texts, TEXTS[0])}
    vectors = [encode_all(encoder, medium)[0].vectors_TD[0] for encoder, medium in media.values()]
    built = {"vectors": vectors, "dtype": "float32", "input": "audio"}
    build_store(tmp_path, [{"key": key} for key in media], {"noise": built})
    manifest = open_store(tmp_path).manifest
    definition = sounds.definition()
    weights = definition["weights_digest"]
    view = replace(manifest.views["noise"], encoder=name, pooling="mean", definition=definition, weights_digest=weights)
    replace(manifest, views={"noise": view}).save(tmp_path)
    store = open_store(tmp_path)
    for query, key in ((TEXTS[0], "text0"), (clips[0], "sound0"), (clips[1], "sound1")):
        (best,) = store.nearest("noise", query, k=1).to_pylist()
        assert best["key"] == key
        assert best["score"] == pytest.approx(1, abs=1e-5)


def test_clap_refuses_what_is_no_clap(tmp_path):
    with pytest.raises(EncoderError, match="holds no CLAP model that loads"):
        load_encoder(f"clap:{tmp_path}")
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9, "pad_token_id": 0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    WhisperModel(WhisperConfig(**sizes, **heads)).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=f"is a whisper, not a clap: write transformers:{tmp_path}"):
        load_encoder(f"clap:{tmp_path}")


def test_transformers_says_how_to_name_a_clap(folders):
    with pytest.raises(EncoderError, match=f"is a clap: write clap:{folders['fusion']}"):
        load_encoder(f"transformers:{folders['fusion']}")


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("num_samples", [1, 3_000, 8_000])
def test_fill_fills_as_the_library_does(tmp_path, padding, num_samples):
    wave_T = chirp(num_samples, RATE_HZ).wave_T
    extractor = ClapFeatureExtractor(**MELS, truncation="rand_trunc", padding=padding)
    whole = extractor(fill(wave_T, RATE_HZ, padding), sampling_rate=RATE_HZ)["input_features"][0]
    assert np.array_equal(whole, extractor(wave_T, sampling_rate=RATE_HZ)["input_features"][0])


@given(num_samples=st.integers(1, 5_000), longest=st.integers(1, 900))
def test_spread_covers_all_with_as_few_as_can(num_samples, longest):
    starts = spread(num_samples, longest)
    assert len(starts) == -(-num_samples // longest)
    assert starts[0] == 0
    assert starts[-1] == max(0, num_samples - longest)
    assert (np.diff(starts) <= longest).all()
    assert (np.diff(starts) > 0).all()
