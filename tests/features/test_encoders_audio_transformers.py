from pathlib import Path

import numpy as np
import pytest
import torch
from audio_encoding import assert_bytes_of_their_own, chirp, cosine, encode_all, load_encoder
from safetensors.torch import load_file, save_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    SEWConfig,
    SEWModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperModel,
)

from features.encoders.base import Audio
from features.errors import EncoderError
from features.reasons import Reason

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
WAVE_MODELS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Untrained models that read waveforms, by their kind; 45 samples a frame, one every 20."""
    made = {}
    for kind, (config, model) in WAVE_MODELS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        model(config(**SMALL)).save_pretrained(made[kind])
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(made[kind])
    return made


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory) -> Path:
    """An untrained Whisper of windows of 2 s, saved with its decoder, as they are published."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 50}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    tokens |= {"suppress_tokens": None, "begin_suppress_tokens": None}
    config = WhisperConfig(**sizes, **decoder, **tokens, max_source_positions=100)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("num_samples", [1, 45, 64, 65, 1000, 1003])
def test_transformers_audio_gives_frames_with_intervals(folders, num_samples):
    encoder = load_encoder(f"transformers:{folders['wav2vec2']}")
    (outcome,) = encode_all(encoder, chirp(num_samples))
    num_frames = max(1, 1 + (num_samples - 45) // 20)
    assert outcome.vectors_TD.shape == (num_frames, encoder.dim) == (num_frames, 16)
    assert outcome.times_T2[0, 1] == min(45, num_samples) / 16_000
    assert outcome.times_T2[-1, 1] <= num_samples / 16_000


@pytest.mark.parametrize("kind", WAVE_MODELS)
def test_transformers_audio_gives_what_the_model_gives(folders, kind):
    clip = chirp(1000)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(folders[kind])(
        clip.wave_T, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folders[kind])(**inputs).last_hidden_state[0].numpy()
    (outcome,) = encode_all(load_encoder(f"transformers:{folders[kind]}"), clip)
    assert np.allclose(outcome.vectors_TD, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [*WAVE_MODELS, "whisper"])
def test_transformers_audio_gives_the_layer_that_is_asked_for(folders, whisper_folder, kind):
    folder = {**folders, "whisper": whisper_folder}[kind]
    clip = chirp(1000)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(clip.wave_T, sampling_rate=16_000, return_tensors="pt")
    model = AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        layers = (model.get_encoder() if kind == "whisper" else model)(**inputs, output_hidden_states=True)
    found = []
    for layer in (1, 2):
        (outcome,) = encode_all(load_encoder(f"transformers:{folder}", layer=layer), clip)
        expected_TD = layers.hidden_states[layer][0].numpy()[: len(outcome.vectors_TD)]
        assert np.allclose(outcome.vectors_TD, expected_TD, atol=1e-5)
        found.append(outcome.vectors_TD)
    assert not np.allclose(*found, atol=1e-2)


def test_transformers_audio_refuses_a_layer_that_is_not_there(whisper_folder):
    with pytest.raises(EncoderError, match=r"option 'layer' of encoder 'transformers:.*' is 3; it must be at most 2"):
        load_encoder(f"transformers:{whisper_folder}", layer=3)


def test_transformers_audio_refuses_a_layer_whose_vectors_are_at_another_rate(tmp_path):
    adapted = Wav2Vec2Config(**SMALL, add_adapter=True, num_adapter_layers=1, output_hidden_size=16)
    for name, model in (("adapted", Wav2Vec2Model(adapted)), ("squeezed", SEWModel(SEWConfig(**SMALL)))):
        model.save_pretrained(tmp_path / name)
        Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / name)
    with pytest.raises(EncoderError, match=r"adapted ends in an adapter, .* write 'layer: 2' in the view's options"):
        load_encoder(f"transformers:{tmp_path}/adapted")
    with pytest.raises(EncoderError, match=r"squeezed is a sew, .* leave out the option 'layer'"):
        load_encoder(f"transformers:{tmp_path}/squeezed", layer=1)
    for encoder in (
        load_encoder(f"transformers:{tmp_path}/adapted", layer=2),
        load_encoder(f"transformers:{tmp_path}/squeezed"),
    ):
        (outcome,) = encode_all(encoder, chirp(1000))
        assert len(outcome.vectors_TD) == len(outcome.times_T2) == 48


@pytest.mark.parametrize("kind", WAVE_MODELS)
def test_transformers_audio_bytes_depend_on_the_clip_alone(folders, kind):
    clips = [chirp(num_samples) for num_samples in (1_600, 700, 1_234)]
    assert_bytes_of_their_own(load_encoder(f"transformers:{folders[kind]}"), clips)


def test_transformers_audio_rejects_empty_and_broken_clips_alone(folders, whisper_folder):
    broken = [Audio(np.empty(0, np.float32), 16_000), Audio(np.full(800, np.nan, np.float32), 16_000)]
    for folder in (folders["hubert"], whisper_folder):
        empty, nan, good = encode_all(load_encoder(f"transformers:{folder}"), *broken, chirp(800))
        assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
        assert np.isfinite(good.vectors_TD).all()


def test_transformers_audio_refuses_a_folder_without_a_model(tmp_path):
    with pytest.raises(EncoderError, match="holds no audio model that loads"):
        load_encoder(f"transformers:{tmp_path}")


def test_transformers_audio_refuses_weights_that_are_not_whole(tmp_path):
    Wav2Vec2Model(Wav2Vec2Config(**SMALL)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["masked_spec_embed"]  # training alone needs it
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    load_encoder(f"transformers:{tmp_path}")
    del state["encoder.layer_norm.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks weights of encoder\.layer_norm\.bias \(1 in all\)"):
        load_encoder(f"transformers:{tmp_path}")


def test_transformers_audio_says_what_it_takes_and_gives(folders, whisper_folder):
    made = load_encoder(f"transformers:{folders['wavlm']}")
    assert made.about == {"rate_hz": 16_000, "dim": made.dim, "vectors_hz": 800.0}
    made = load_encoder(f"transformers:{whisper_folder}")
    assert made.about == {"rate_hz": 16_000, "dim": made.dim, "vectors_hz": 50.0}


def test_transformers_audio_refuses_a_model_that_hears_nothing(tmp_path):
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="is a bert: only Whisper and models that read waveforms are taken"):
        load_encoder(f"transformers:{tmp_path}")


def test_whisper_gives_what_the_model_gives(whisper_folder):
    clip = chirp(32_000)
    extractor = WhisperFeatureExtractor.from_pretrained(whisper_folder)
    encoder = load_encoder(f"transformers:{whisper_folder}")
    for num_samples in (32_000, 20_000):
        inputs = extractor(clip.wave_T[:num_samples], sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            model = WhisperModel.from_pretrained(whisper_folder).get_encoder()
            expected_TD = model(inputs.input_features).last_hidden_state[0].numpy()
        (outcome,) = encode_all(encoder, Audio(clip.wave_T[:num_samples], 16_000))
        num_vectors = -(-num_samples // 320)
        assert outcome.vectors_TD.shape == (num_vectors, encoder.dim) == (num_vectors, 16)
        assert cosine(outcome.vectors_TD, expected_TD[:num_vectors]) >= 0.999999


@pytest.mark.parametrize("num_samples", [1, 320, 321, 32_000, 32_001, 70_000])
def test_whisper_gives_a_vector_for_every_20_ms_that_the_clip_covers(whisper_folder, num_samples):
    encoder = load_encoder(f"transformers:{whisper_folder}")
    (outcome,) = encode_all(encoder, Audio(chirp(num_samples).wave_T, 16_000, start_s=1.0))
    num_vectors = -(-num_samples // 320)
    assert len(outcome.vectors_TD) == len(outcome.times_T2) == num_vectors
    assert np.allclose(outcome.times_T2[:, 0], 1 + np.arange(num_vectors) * 0.02)
    assert outcome.times_T2[-1, 1] == pytest.approx(1 + num_samples / 16_000)
    assert (outcome.times_T2[:, 1] > outcome.times_T2[:, 0]).all()


def test_whisper_reads_a_long_clip_window_by_window(whisper_folder):
    encoder = load_encoder(f"transformers:{whisper_folder}")
    clip = chirp(70_000)
    (whole,) = encode_all(encoder, clip)
    parts = encode_all(encoder, *(Audio(clip.wave_T[start : start + 32_000], 16_000) for start in (0, 32_000, 64_000)))
    assert whole.vectors_TD.tobytes() == np.concatenate([part.vectors_TD for part in parts]).tobytes()


def test_whisper_bytes_depend_on_the_clip_alone(whisper_folder):
    clips = [chirp(num_samples) for num_samples in (40_000, 700, 12_345)]
    assert_bytes_of_their_own(load_encoder(f"transformers:{whisper_folder}"), clips)


def test_whisper_takes_clips_of_any_rate(whisper_folder):
    encoder = load_encoder(f"transformers:{whisper_folder}")
    (outcome,) = encode_all(encoder, chirp(44_101, rate_hz=44_100))
    assert len(outcome.vectors_TD) == 51  # a second and a bit
    assert (outcome.times_T2[:, 1] > outcome.times_T2[:, 0]).all()
    assert outcome.times_T2[-1, 1] == pytest.approx(44_101 / 44_100)


def test_a_model_that_keeps_the_positions_of_a_clip_keeps_none_for_another_threads(tmp_path):
    torch.manual_seed(0)
    config = Wav2Vec2ConformerConfig(**SMALL, position_embeddings_type="rotary", conv_depthwise_kernel_size=3)
    Wav2Vec2ConformerModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    encoder = load_encoder(f"transformers:{tmp_path}")
    clips = [chirp(2000), chirp(3000)]
    expected = [outcome.vectors_TD.tobytes() for outcome in encode_all(encoder, *clips)]
    (positions,) = (part for part in encoder._network.model.modules() if hasattr(part, "cached_sequence_length"))
    # As another thread leaves it, which has begun with a clip as long as the first and not come to its end.
    positions.cached_sequence_length = len(encode_all(encoder, clips[0])[0].vectors_TD)
    positions.cached_rotary_positional_embedding = torch.zeros(2, positions.cached_sequence_length, 1, 1, 8)
    assert [outcome.vectors_TD.tobytes() for outcome in encode_all(encoder, *clips)] == expected
