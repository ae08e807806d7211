import pickle
import re
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from audio_encoding import assert_bytes_of_their_own, chirp, cosine, encode_all
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoders import resemblyzer
from features.encoders.base import Audio, Encoder
from features.encoders.catalogue import make_encoder
from features.errors import EncoderError
from features.reasons import Reason
from features.rev import digest_file
from features.view import Pooling, View

INSTALL = "pip install --no-deps resemblyzer==0.1.4"
needs_weights = pytest.mark.skipif(find_spec("resemblyzer") is None, reason=f"needs real weights: {INSTALL}")


def load(pooling: Pooling = "mean", **options) -> Encoder:
    view = View(name="voice", input="audio", encoder="resemblyzer", pooling=pooling, options=options)
    made = make_encoder(view)
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def random_state(seed: int) -> dict[str, torch.Tensor]:
    """Small random numbers under the names of the package's file, with the two that only training uses."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"similarity_weight": (1,), "similarity_bias": (1,)}
    for layer in range(3):
        shapes[f"lstm.weight_ih_l{layer}"] = (1024, 40 if layer == 0 else 256)
        shapes[f"lstm.weight_hh_l{layer}"] = (1024, 256)
        shapes[f"lstm.bias_ih_l{layer}"] = shapes[f"lstm.bias_hh_l{layer}"] = (1024,)
    shapes |= {"linear.weight": (256, 256), "linear.bias": (256,)}
    return {name: 0.2 * torch.rand(shape, generator=draw) - 0.1 for name, shape in shapes.items()}


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Put a package with these weights where Python finds it; it fails when it is imported, as the real one does."""
    package = folder / "resemblyzer"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save({"step": 1, "model_state": state, "optimizer_state": {}}, package / "pretrained.pt")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(resemblyzer, "RESEMBLYZER_SHA256", digest_file(package / "pretrained.pt"))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """Of random weights, by pooling."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch, tmp_path_factory.mktemp("site"), random_state(0))
        return {pooling: load(pooling) for pooling in ("mean", "sequence")}


def computed(wave_T: np.ndarray) -> np.ndarray:
    """float64 [part, 256]: what the random weights give by the textbook's formulas."""
    weights = {name: tensor.double().numpy() for name, tensor in random_state(0).items()}
    starts = [start for start in range(0, max(1, len(wave_T)), 12_320) if start == 0 or len(wave_T) - start >= 19_200]
    padded_T = np.pad(wave_T, (0, max(0, starts[-1] + 25_600 - len(wave_T))))
    mel_MF = librosa.feature.melspectrogram(y=padded_T, sr=16_000, n_fft=400, hop_length=160, n_mels=40)
    inputs_FPD = np.stack([mel_MF[:, start // 160 :][:, :160].T for start in starts], axis=1).astype(np.float64)
    for layer in range(3):
        into, back = (weights[f"lstm.weight_{name}_l{layer}"] for name in ("ih", "hh"))
        bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
        hidden_PD = cell_PD = np.zeros((len(starts), 256))
        outputs = []
        for input_PD in inputs_FPD:
            gates = np.split(input_PD @ into.T + hidden_PD @ back.T + bias, 4, axis=1)
            enters, stays, leaves = (1 / (1 + np.exp(-gates[gate])) for gate in (0, 1, 3))
            cell_PD = stays * cell_PD + enters * np.tanh(gates[2])
            hidden_PD = leaves * np.tanh(cell_PD)
            outputs.append(hidden_PD)
        inputs_FPD = np.stack(outputs)
    raw_PD = np.maximum(inputs_FPD[-1] @ weights["linear.weight"].T + weights["linear.bias"], 0)
    return raw_PD / np.linalg.norm(raw_PD, axis=1, keepdims=True)


@pytest.mark.parametrize("num_samples", [1, 25_600, 31_519, 31_520, 60_000])
def test_resemblyzer_gives_what_its_formulas_give(encoders, num_samples):
    clip = chirp(num_samples)
    (sequence,), (mean,) = encode_all(encoders["sequence"], clip), encode_all(encoders["mean"], clip)
    expected_PD = computed(clip.wave_T)
    assert np.allclose(sequence.vectors_TD, expected_PD, atol=1e-5)
    mean_D = expected_PD.mean(axis=0)
    assert mean.vectors_TD.shape == (1, encoders["mean"].dim) == (1, 256)
    assert np.allclose(mean.vectors_TD[0], mean_D / np.linalg.norm(mean_D), atol=1e-5)


@given(st.integers(1, 80_000), st.sampled_from([0.0, 1e-4, 1.0]))
@settings(max_examples=30)
def test_resemblyzer_gives_a_clip_one_vector_of_length_1(encoders, num_samples, gain):
    clip = Audio(gain * chirp(num_samples).wave_T, 16_000)
    (sequence,), (mean,) = encode_all(encoders["sequence"], clip), encode_all(encoders["mean"], clip)
    for vectors_TD in (sequence.vectors_TD, mean.vectors_TD):
        assert np.allclose(np.linalg.norm(vectors_TD, axis=1), 1, atol=1e-6)
        assert vectors_TD.min() >= 0
    assert cosine(sequence.vectors_TD.mean(axis=0), mean.vectors_TD) == pytest.approx(1, abs=1e-6)
    assert mean.times_T2.tolist() == [[sequence.times_T2[0, 0], sequence.times_T2[-1, 1]]]


@pytest.mark.parametrize(
    ("num_samples", "parts"),
    [
        (1, [(0, 1)]),
        (25_600, [(0, 25_600)]),
        (31_519, [(0, 25_600)]),  # one sample short of a second part
        (31_520, [(0, 25_600), (12_320, 31_520)]),
        (43_840, [(0, 25_600), (12_320, 37_920), (24_640, 43_840)]),
    ],
)
def test_resemblyzer_tells_when_each_part_is(encoders, num_samples, parts):
    (outcome,) = encode_all(encoders["sequence"], Audio(chirp(num_samples).wave_T, 16_000, start_s=2.0, stretch=1.5))
    assert len(outcome.vectors_TD) == len(parts)
    assert np.allclose(outcome.times_T2, 2 + 1.5 * np.array(parts) / 16_000)


def test_resemblyzer_hears_a_clip_of_another_rate_at_its_own(encoders):
    times_T = np.arange(3 * 48_000) / 48_000
    tone_T = (0.3 * np.sin(2 * np.pi * 440 * times_T)).astype(np.float32)
    slow, fast = encode_all(encoders["sequence"], Audio(tone_T[::3], 16_000), Audio(tone_T, 48_000))
    assert np.allclose(slow.times_T2, fast.times_T2)
    assert min(map(cosine, slow.vectors_TD, fast.vectors_TD)) > 0.9999


def test_resemblyzer_hears_a_long_clip_as_if_at_once(encoders, monkeypatch):
    (whole,) = encode_all(encoders["sequence"], chirp(90_000))
    monkeypatch.setattr(resemblyzer, "_BLOCK_FRAMES", 100)
    monkeypatch.setattr(resemblyzer, "_BLOCK_PARTS", 2)
    (in_blocks,) = encode_all(encoders["sequence"], chirp(90_000))
    assert np.allclose(whole.vectors_TD, in_blocks.vectors_TD, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "sequence"])
def test_resemblyzer_bytes_depend_on_the_clip_alone(encoders, pooling):
    assert_bytes_of_their_own(encoders[pooling], [chirp(40_000), chirp(700), chirp(12_345), chirp(60_000)])


def test_resemblyzer_rejects_empty_and_broken_clips_alone(encoders):
    broken = [Audio(np.empty(0, np.float32), 16_000), Audio(np.full(800, np.nan, np.float32), 16_000)]
    empty, nan, good = encode_all(encoders["mean"], *broken, chirp(800))
    assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
    assert np.isfinite(good.vectors_TD).all()


def test_resemblyzer_rejects_a_clip_in_which_the_network_hears_nothing(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, random_state(0) | {"linear.bias": torch.full((256,), -100.0)})
    (outcome,) = encode_all(load(), chirp(800))
    assert outcome.reason == Reason.NON_FINITE


def test_resemblyzer_defines_itself_by_its_weights_and_what_is_kept_of_parts(encoders):
    definitions = {pooling: encoder.definition() for pooling, encoder in encoders.items()}
    assert definitions["mean"]["settings"] != definitions["sequence"]["settings"]
    assert definitions["mean"]["weights_digest"].startswith("39373b86")
    assert pickle.loads(pickle.dumps(encoders["mean"])).definition() == definitions["mean"]


def test_resemblyzer_says_what_installs_it(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, random_state(0))
    monkeypatch.setattr(resemblyzer, "RESEMBLYZER_SHA256", "00")
    said = rf"pretrained\.pt has sha256 .*, not the pinned 00: {re.escape(INSTALL)} --force-reinstall"
    with pytest.raises(EncoderError, match=said):
        load()
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(EncoderError, match=f"needs the package resemblyzer: {re.escape(INSTALL)}"):
        load()


def test_resemblyzer_has_no_options(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, random_state(0))
    with pytest.raises(EncoderError, match="option 'rate_hz' of encoder 'resemblyzer' is unknown: it has no options"):
        load(rate_hz=8_000)


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The package's own encoder. What it imports to trim silence is not installed, and not called here."""
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports from a module that scipy has renamed
        from resemblyzer import VoiceEncoder
    yield VoiceEncoder("cpu", verbose=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "resemblyzer"]:
        del sys.modules[name]  # so that other tests find their own


@needs_weights
def test_resemblyzer_gives_what_the_package_gives(documented):
    clips = [chirp(num_samples) for num_samples in (100, 25_599, 31_519, 31_520, 80_000)]
    clips += [Audio(np.zeros(30_000, np.float32), 16_000), Audio(np.full(20_000, 0.5, np.float32), 16_000)]
    for clip, mean, sequence in zip(
        clips, encode_all(load(), *clips), encode_all(load("sequence"), *clips), strict=True
    ):
        expected_D, expected_PD, slices = documented.embed_utterance(clip.wave_T, return_partials=True)
        assert cosine(mean.vectors_TD, expected_D) > 0.999999
        assert np.allclose(mean.vectors_TD[0], expected_D, atol=1e-4)
        assert np.allclose(sequence.vectors_TD, expected_PD, atol=1e-4)
        assert np.allclose(sequence.times_T2[:, 0], [part.start / 16_000 for part in slices])


@needs_weights
def test_resemblyzer_gives_the_numbers_that_it_always_gave():
    """Stored views of one rev must agree: a change here belongs with a change of code or weights that the rev sees."""
    (outcome,) = encode_all(load(), chirp(50_000))
    golden = [
        0.000000,
        0.000000,
        0.195092,
        0.000000,
        0.000000,
        0.033482,
        0.004274,
        0.060543,
        0.069828,
        0.000000,
        0.126390,
        0.000000,
        0.119484,
        0.000000,
        0.065851,
        0.000000,
        0.279590,
        0.009272,
        0.041470,
        0.000000,
    ]
    assert np.allclose(outcome.vectors_TD[0, :20], golden, atol=1e-5)  # not bytes: those differ between kinds of CPU
