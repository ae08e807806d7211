"""Encoders on GPUs: real ones where there are some, and simulated ones elsewhere."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_encoding import chirp
from image_encoding import cosine, pictures, video_of
from simulated_gpu import simulated_gpus

from features.encoders.base import Encoded, Encoder, Media, Prepared
from features.encoders.catalogue import make_encoder
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.opening import open_session
from features.encoders.session import Session
from features.errors import EncoderError
from features.reasons import MediaError, Reason
from features.view import View

pytestmark = pytest.mark.no_simulated_gpu
HAS_GPU = torch.cuda.is_available()
simulated = pytest.mark.skipif(HAS_GPU, reason="there is a GPU, beside which none can be simulated")


@pytest.fixture
def gpu() -> Iterator[None]:
    """A GPU, whichever there is."""
    if HAS_GPU:
        yield
    else:
        with simulated_gpus():
            yield


def encode(session: Session, samples: Sequence[Media]) -> list[Encoded | MediaError]:
    return [
        outcome
        for _, outcome in session.encode((place, partial(samples.__getitem__, place)) for place in range(len(samples)))
    ]


def vectors(session: Session, samples: Sequence[Media]) -> np.ndarray:
    """float32 [vector, dim] of samples that all have to come through."""
    return np.concatenate([outcome.vectors_TD for outcome in encode(session, samples)])


TEXTS = ["one", "two words", "and a few more of them, " * 5]
SOUNDS = [chirp(length) for length in (16_000, 24_000, 5_001)]
VIDEOS = [video_of(pictures(count, seed=count), 4.0) for count in (2, 5)]
SMALL = {"size_px": 64}


@pytest.mark.parametrize(
    ("modality", "encoder", "options", "samples"),
    [
        ("text", "minilm", {}, TEXTS),
        ("text", "open_clip:{clip}", {}, TEXTS),
        ("image", "open_clip:{clip}", {}, pictures(3)),
        ("image", "efficientnet-lite0", SMALL, pictures(3)),
        ("video", "efficientnet-lite0", SMALL, VIDEOS),
        ("audio", "logmel-mfcc", {}, SOUNDS),
        ("audio", "silero-vad", {}, SOUNDS),
    ],
)
def test_a_gpu_gives_what_the_cpu_gives_in_any_company(
    gpu: None, clip_folder: Path, modality: str, encoder: str, options: dict[str, Any], samples: list[Media]
) -> None:
    view = View(name="view", input=modality, encoder=encoder.format(clip=clip_folder), options=options)
    with open_session(make_encoder(view), "cpu", threads=1) as session:
        expected = vectors(session, samples)
    with open_session(make_encoder(view), "cuda", threads=2) as session:
        found = vectors(session, samples)
        order = np.random.default_rng(0).integers(0, len(samples), 40)
        crowded = encode(session, [samples[place] for place in order])
        alone = [encode(session, [sample])[0].vectors_TD.tobytes() for sample in samples]
    assert cosine(found.astype(np.float64), expected.astype(np.float64)) > 0.9999
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()  # a cosine of one number says nothing
    assert [outcome.vectors_TD.tobytes() for outcome in crowded] == [alone[place] for place in order]


@pytest.mark.parametrize(("precision", "least"), [("float16", 0.9999), ("bfloat16", 0.998)])
@pytest.mark.parametrize(
    ("modality", "encoder", "samples"), [("text", "minilm", TEXTS), ("image", "efficientnet-lite0", pictures(3))]
)
def test_a_lower_precision_on_a_gpu_is_close_to_float32_and_another_feature(
    gpu: None, modality: str, encoder: str, samples: list[Media], precision: str, least: float
) -> None:
    found, revs = [], []
    for options in ({}, {"precision": precision}):
        made = make_encoder(View(name="view", input=modality, encoder=encoder, options=options))
        revs.append(made.definition())
        with open_session(made, "cuda", threads=1) as session:
            found.append(vectors(session, samples).astype(np.float64))
    assert least < cosine(*found) < 1 - 1e-9
    assert revs[0] != revs[1]


def _bring(forward: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor], device: str) -> Network:
    torch.manual_seed(0)
    model = settle(torch.nn.Linear(1, 2), device)
    return Network(_prepare, partial(forward, model), 2)


def _prepare(media: Media) -> Prepared:
    """A text is the length of its unit."""
    assert isinstance(media, str)
    return Prepared([np.ones(int(media), np.float32)], np.full((1, 2), np.nan))


def _forward(model: torch.nn.Module, units_BN: torch.Tensor) -> torch.Tensor:
    return model(units_BN.mean(dim=1, keepdim=True))


def _forward_slowly(model: torch.nn.Module, units_BN: torch.Tensor) -> torch.Tensor:
    found_BD = _forward(model, units_BN)
    time.sleep(0.02)
    return found_BD


def small_encoder(
    batch_size: int, forward: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] = _forward
) -> Encoder:
    return NetworkEncoder(
        name="small",
        inputs=frozenset({"text"}),
        batch_size=batch_size,
        settings={},
        weights_digest=str,
        modules=(),
        libraries=(),
        bring=partial(_bring, forward),
    )


@simulated
def test_two_gpus_share_the_work_each_with_a_copy_and_streams_of_its_own() -> None:
    with simulated_gpus(2) as gpus, open_session(small_encoder(2, _forward_slowly), "cuda", threads=1) as session:
        loading = gpus.launched.copy()
        found = vectors(session, ["100"] * 40)
        assert {tuple(row) for row in found.tolist()} == {tuple(found[0].tolist())}
        work = gpus.launched - loading
        assert min(work[0], work[1]) > 0.2 * work.total()
        # Four threads run the model, of which no more than two are at one GPU.
        assert max(gpus.streams.count(0), gpus.streams.count(1)) == 2


@simulated
def test_batches_that_a_gpu_does_not_hold_are_made_smaller_and_a_sample_that_alone_is_too_large_is_rejected() -> None:
    with (
        simulated_gpus(memory_bytes=5 << 20),
        open_session(small_encoder(8), "cuda", threads=1) as session,
    ):
        kept = encode(session, ["250000"] * 20)  # a million bytes each
        (rejected,) = encode(session, ["2000000"])
        after = encode(session, ["250000"])
    assert len({outcome.vectors_TD.tobytes() for outcome in [*kept, *after]}) == 1
    assert session.batch_size.num_halvings >= 1
    assert isinstance(rejected, MediaError)
    assert rejected.reason == Reason.TOO_LARGE


def _forward_twice(model: torch.nn.Module, units_BN: torch.Tensor) -> torch.Tensor:
    doubled_BN = units_BN * 2
    return _forward(model, doubled_BN)


@simulated
def test_a_batch_that_a_gpu_does_not_hold_leaves_it_what_it_took() -> None:
    with (
        simulated_gpus(memory_bytes=10 << 20),
        open_session(small_encoder(8, _forward_twice), "cuda", threads=1) as session,
    ):
        found = encode(session, ["250000"] * 4)  # eight make 8 MB and then 16, four 4 MB and then 8
    assert session.batch_size.num_halvings == 1
    assert len({outcome.vectors_TD.tobytes() for outcome in found}) == 1


@simulated
def test_a_sample_that_a_gpu_holds_is_not_too_large_for_what_runs_beside_it() -> None:
    """Two of them are more than it holds, and two threads run the model."""
    with (
        simulated_gpus(memory_bytes=5 << 20),
        open_session(small_encoder(1, _forward_slowly), "cuda", threads=1) as session,
    ):
        assert len(vectors(session, ["750000"] * 30)) == 30


@simulated
@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
        RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"),
    ],
)
def test_a_gpu_that_fails_ends_the_work_and_blames_no_sample(error: Exception) -> None:
    with simulated_gpus() as gpus, open_session(small_encoder(1), "cuda", threads=1) as session:
        encode(session, ["10"])
        gpus.fail(error)
        message = rf"the GPU failed, .* in this process: {str(error).splitlines()[0]}: run again"
        with pytest.raises(EncoderError, match=message):
            encode(session, ["10", "20"])


def _forward_no_more_than_a_hundred(model: torch.nn.Module, units_BN: torch.Tensor) -> torch.Tensor:
    if units_BN.shape[1] > 100:
        raise torch.AcceleratorError("CUDA error: invalid configuration argument")
    return _forward(model, units_BN)


@simulated
def test_a_sample_that_a_kernel_refuses_is_rejected_alone() -> None:
    encoder = small_encoder(1, _forward_no_more_than_a_hundred)
    with simulated_gpus(), open_session(encoder, "cuda", threads=1) as session:
        found = encode(session, ["10", "1000", "20"])
    assert isinstance(found[1], MediaError)
    assert found[1].reason == Reason.NOT_ENCODABLE
    assert isinstance(found[0], Encoded)
    assert isinstance(found[2], Encoded)


def test_attention_has_a_mask_in_a_batch_that_needs_none(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could be another kernel there, and a text would have other bytes in such company."""
    masks = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def noted(*args: Any, attn_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        masks.append(attn_mask)
        return attention(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    encoder = make_encoder(View(name="view", input="text", encoder="minilm"))
    with open_session(encoder, "cuda", threads=1) as session:
        vectors(session, ["one two three four five six"] * 64)
    assert len(masks) >= 6
    assert all(mask is not None for mask in masks)


@simulated
def test_a_gpu_that_fails_while_a_model_is_loaded_is_named() -> None:
    with simulated_gpus() as gpus:
        gpus.fail(torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"))
        with pytest.raises(EncoderError, match=r"the GPU failed, .* no kernel image is available"):
            open_session(small_encoder(2), "cuda", threads=1)


@simulated
def test_a_simulated_gpu_mixes_no_tensors_and_hands_none_to_numpy() -> None:
    """Else none of the tests above could find what they are there to find."""
    with simulated_gpus(2), torch.inference_mode():
        on_first, on_second = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
        for other in (on_second, torch.ones(3)):
            with pytest.raises(RuntimeError, match="to be on the same device"):
                on_first + other
        with pytest.raises(RuntimeError):
            on_first.numpy()
        assert (on_first * 2).cpu().tolist() == [2, 2, 2]


def test_a_session_on_gpus_decodes_on_all_processors(gpu: None) -> None:
    with open_session(small_encoder(2), "cuda", threads=1) as session:
        assert session._decoders._max_workers == len(os.sched_getaffinity(0))
