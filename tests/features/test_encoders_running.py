"""Options of every network: precision and compilation, what they do to vectors, and what a view says of them."""

import shutil

import numpy as np
import pytest
import torch

from features.encoders.base import Encoded, Encoder
from features.encoders.catalogue import make_encoder
from features.encoders.running import Running, check_device, take_running
from features.encoders.session import encode_samples
from features.errors import EncoderError
from features.view import View

TEXTS = ["a picture of a dog", "stock prices fell", "", "one two three four five six seven"]


def view_of(modality: str, encoder: str, **options: object) -> View:
    return View(name="v", input=modality, encoder=encoder, options=options)


def encode_texts(encoder: Encoder) -> np.ndarray:
    encoder.load("cpu")
    outcomes = [outcome for _, outcome in encode_samples(encoder, enumerate(text for text in TEXTS if text))]
    return np.concatenate([outcome.vectors_TD for outcome in outcomes if isinstance(outcome, Encoded)])


@pytest.fixture(scope="module")
def exact() -> np.ndarray:
    return encode_texts(make_encoder(view_of("text", "minilm")))


@pytest.mark.parametrize(
    ("precision", "least"), [("bfloat16", 0.999), pytest.param("int8", 0.95, marks=pytest.mark.no_simulated_gpu)]
)
def test_a_lower_precision_is_close_to_float32_and_another_feature(
    exact: np.ndarray, precision: str, least: float
) -> None:
    encoder = make_encoder(view_of("text", "minilm", precision=precision))
    vectors = encode_texts(encoder)
    cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    assert least < cosines.min() < 1 - 1e-7
    plain = make_encoder(view_of("text", "minilm")).definition()
    assert encoder.definition()["running"] == {"precision": precision, "compile": False, "channels_last": True}
    assert "running" not in plain
    assert {name: encoder.definition()[name] for name in plain} == plain


@pytest.mark.parametrize(
    ("modality", "encoder"), [("audio", "logmel-mfcc"), ("audio", "spectral"), ("image", "hog"), ("text", "wordllama")]
)
@pytest.mark.parametrize("option", [{"precision": "bfloat16"}, {"compile": True}])
def test_an_encoder_without_a_network_has_no_such_options(modality: str, encoder: str, option: dict[str, object]):
    with pytest.raises(EncoderError, match=f"encoder '{encoder}' has no network"):
        make_encoder(view_of(modality, encoder, **option))


@pytest.mark.no_simulated_gpu
def test_int8_is_refused_where_no_layer_is_linear() -> None:
    encoder = make_encoder(view_of("image", "efficientnet-lite0", size_px=32, precision="int8"))
    with pytest.raises(EncoderError, match="linear layers, and this one has none: choose 'bfloat16'"):
        encoder.load("cpu")


def test_rows_of_int8_say_that_they_depend_on_their_company() -> None:
    assert "its company" in make_encoder(view_of("text", "minilm", precision="int8")).definition()["nondeterministic"]
    assert "nondeterministic" not in make_encoder(view_of("text", "minilm", precision="bfloat16")).definition()


def test_what_is_said_of_a_default_changes_nothing() -> None:
    said = make_encoder(view_of("text", "minilm", precision="float32", compile=False)).definition()
    assert said == make_encoder(view_of("text", "minilm")).definition()


@pytest.mark.no_simulated_gpu
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4)
    run = []

    def forward(units: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            run.append(units.shape)
        return model(units).sum(dim=1)

    compiled = Running(compile=True).apply(forward, model, "cpu")
    with torch.inference_mode():
        for length in range(1, 12):  # torch compiles no more than eight times by itself
            units = torch.randn(3, length, 8)
            assert torch.allclose(compiled(units), model(units).sum(dim=1), atol=1e-5)
    assert run == []
    assert "torch.compile" in Running(compile=True).definition()["nondeterministic"]


@pytest.mark.no_simulated_gpu
def test_a_network_that_cannot_be_compiled_ends_the_run_and_blames_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    model = torch.nn.Linear(8, 5)
    compiled = Running(compile=True).apply(lambda units: model(units).exp().cos(), model, "cpu")
    with (
        torch.inference_mode(),
        pytest.raises(EncoderError, match=r"torch.compile makes no kernels .*: take the option"),
    ):
        compiled(torch.randn(3, 8))


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_network_of_images_runs_in_the_layout_that_is_asked_for(channels_last: bool) -> None:
    torch.manual_seed(0)
    layouts = []

    class Pooled(torch.nn.Sequential):
        def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
            layouts.append(pixels_BCHW.is_contiguous(memory_format=torch.channels_last))
            return super().forward(pixels_BCHW).mean((2, 3))

    model, units = Pooled(torch.nn.Conv2d(3, 8, 3)), torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        expected_BD = model(units)
    forward = Running(channels_last=channels_last).apply(model, model, "cpu", image_CHW=(3, 16, 16))
    with torch.inference_mode():
        found_BD = forward(units)
    assert torch.allclose(found_BD, expected_BD, atol=1e-6)
    assert (layouts[0], layouts[-1]) == (False, channels_last)


def test_a_layout_of_images_is_refused_for_other_networks() -> None:
    encoder = make_encoder(view_of("text", "minilm", channels_last=False))
    with pytest.raises(EncoderError, match="'channels_last' is for networks of images"):
        encoder.load("cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels_last": "no"}, "'channels_last' is 'no'; it must be true or false"),
        ({"precision": "float8"}, "'precision' is 'float8'; it must be one of float32, bfloat16, float16, int8"),
        ({"precision": 16}, "'precision' is 16; it must be one of"),
        ({"compile": 1}, "'compile' is 1; it must be true or false"),
        ({"presicion": "int8"}, "option 'presicion' of encoder 'minilm' is unknown"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        make_encoder(view_of("text", "minilm", **options))


def test_a_precision_of_another_kind_is_named_by_the_check_of_the_device() -> None:
    with pytest.raises(EncoderError, match=r"'precision' is \['int8'\]; it must be one of"):
        check_device(view_of("text", "minilm", precision=["int8"]), "cpu")


@pytest.mark.parametrize(
    ("precision", "device", "fits"),
    [("float16", "cpu", False), ("int8", "cuda", False), ("float16", "cuda", True), ("bfloat16", "cpu", True)],
)
def test_a_precision_that_is_not_for_the_device_is_named_before_any_work(
    precision: str, device: str, fits: bool
) -> None:
    view = view_of("text", "minilm", precision=precision)
    if fits:
        check_device(view, device)
    else:
        with pytest.raises(EncoderError, match=f"precision '{precision}' is for '.*', and embed.device is '{device}'"):
            check_device(view, device)


def test_take_running_leaves_the_other_options() -> None:
    view, running = take_running(view_of("text", "minilm", precision="int8", batch_tokens=4))
    assert (view.options, running) == ({"batch_tokens": 4}, Running("int8"))
