"""Words found by CTC: on emissions made by hand, and through models of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import EncoderError
from features.reasons import MediaError, Reason
from pipelines.media.forced.acoustic_models import load_acoustic_model, model_settings
from pipelines.media.forced.aligning import align_words
from pipelines.media.forced.ctc import AcousticModel, place_words, spell

LABELS = {"-": 0, "|": 1, "A": 2, "B": 3, "'": 4}


def emission(path: str, probability: float = 0.9) -> torch.Tensor:
    """Log probabilities in which each frame's label has the probability and the others share the rest."""
    probs_TC = np.full((len(path), len(LABELS)), (1 - probability) / (len(LABELS) - 1))
    probs_TC[np.arange(len(path)), [LABELS[label] for label in path]] = probability
    return torch.from_numpy(np.log(probs_TC))


def test_place_words_follows_the_path_exactly() -> None:
    found = place_words(emission("--AA-B|--B-B---"), [[2, 3], [3, 3]], 0, 1)
    assert [(start, stop) for start, stop, _ in found] == [(2, 6), (9, 12)]
    assert [confidence for *_, confidence in found] == pytest.approx([0.9, 0.9])


def test_place_words_needs_no_label_between_words() -> None:
    found = place_words(emission("-A--B-"), [[2], [3]], 0, None)
    assert [(start, stop) for start, stop, _ in found] == [(1, 2), (4, 5)]


def test_place_words_tells_the_probability_of_what_is_not_there() -> None:
    ((_, _, confidence),) = place_words(emission("AAAA"), [[3]], 0, 1)
    assert confidence == pytest.approx(0.025)


def test_place_words_rejects_more_letters_than_frames() -> None:
    with pytest.raises(MediaError, match="1 words of 5 letters do not fit into its sound") as raised:
        place_words(emission("BBBB"), [[3, 3, 3]], 0, 1)  # equal neighbours need a blank between them
    assert raised.value.reason == Reason.NOT_ALIGNED


@pytest.mark.parametrize(
    ("word", "labels"), [("ab", [2, 3]), ("B\N{RIGHT SINGLE QUOTATION MARK}a!", [3, 4, 2]), ("|-", []), ("xyz", [])]
)
def test_spell_takes_the_letters_that_the_model_has(word: str, labels: list[int]) -> None:
    assert spell(word, LABELS, {0, 1}) == labels


def test_acoustic_model_joins_the_pieces_of_a_long_wave() -> None:
    rate_hz, hop = 100, 2

    def emit(wave_T: np.ndarray) -> torch.Tensor:  # a sample's value says which label is heard
        return emission("".join("-|AB'"[int(value)] for value in wave_T[::hop]))

    wave_T = np.zeros(70 * rate_hz, np.float32)
    wave_T[2990:3020], wave_T[3020:3030], wave_T[6000:6020] = 2, 1, 3
    model = AcousticModel(emit, LABELS, 0, 1, rate_hz, hop, hop)
    aligned = align_words(wave_T, rate_hz, "A? b 7", model)
    assert [(word.text, word.start_s, word.end_s) for word in aligned.words] == [("A?", 29.9, 30.2), ("b", 60.0, 60.2)]
    assert aligned.unsayable == ["7"]


def small_model(folder: Path) -> Path:
    """A wav2vec 2 of random weights with a head for letters, as transformers saves it."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    torch.manual_seed(0)
    folder.mkdir()
    vocabulary = {
        "<pad>": 0,
        "<s>": 1,
        "</s>": 2,
        "<unk>": 3,
        "|": 4,
        **{chr(97 + index): 5 + index for index in range(26)},
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 40),
        conv_stride=(10, 32),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def test_load_acoustic_model_reads_a_folder_of_transformers(tmp_path: Path) -> None:
    model = load_acoustic_model(str(small_model(tmp_path / "model")))
    wave_T = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    aligned = align_words(wave_T, 16_000, "Two words", model)
    assert [word.text for word in aligned.words] == ["Two", "words"]
    assert 0 < aligned.words[0].start_s < aligned.words[0].end_s < aligned.words[1].start_s < 2
    assert align_words(wave_T, 16_000, "Two words", model) == aligned
    assert set(model_settings(str(tmp_path / "model"))) == {"model", "torch", "torchaudio", "transformers"}


def test_load_acoustic_model_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match="'torchaudio:WAV2VEC' is no pipeline of torchaudio that gives letters; known: HUBERT"
    ):
        load_acoustic_model("torchaudio:WAV2VEC")
    with pytest.raises(EncoderError, match=r"its weights are not in .*hubert_fairseq_large_ll60k_asr_ls960.pth"):
        load_acoustic_model("torchaudio:HUBERT_ASR_LARGE")
    with pytest.raises(EncoderError, match="there is no folder"):
        load_acoustic_model(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="holds no CTC model that loads"):
        load_acoustic_model(str(tmp_path))


def test_load_acoustic_model_reads_a_pipeline_of_torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchaudio

    bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_10M
    small = {**bundle._params, "encoder_embed_dim": 16, "encoder_num_layers": 1, "encoder_num_heads": 2}
    small |= {"encoder_ff_interm_features": 16, "encoder_pos_conv_kernel": 4, "encoder_pos_conv_groups": 2}
    monkeypatch.setattr(bundle, "_params", small)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    saved = {**small, "aux_num_out": small["aux_num_out"] + len(bundle._remove_aux_axis)}
    torch.save(torchaudio.models.wav2vec2_model(**saved).state_dict(), cache / Path(bundle._path).name)
    model = load_acoustic_model("torchaudio:WAV2VEC2_ASR_BASE_10M")
    wave_T = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert [word.text for word in align_words(wave_T, 16_000, "one two", model).words] == ["one", "two"]
    assert (model.window, model.hop, model.between) == (400, 320, 1)
