"""Embed on GPUs, simulated ones: all that it does there but for the speed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from counting import publish_sources, publish_texts
from shard_work import local_beam
from simulated_gpu import simulated_gpus

import features
from features.errors import EncoderError, StageError
from pipelines.embed import choose_device, define_views, embed_views
from pipelines.params import EmbedParams
from pipelines.precision import measure_precision
from pipelines.view_params import ViewParams

pytestmark = [
    pytest.mark.no_simulated_gpu,
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, beside which none can be simulated"),
]
TEXTS: dict[str, str | None] = {f"rec{number:02d}/0": f"number {number} " * (1 + number % 7) for number in range(40)}


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells that there is a GPU is asked of torch alone: there is no library of a driver."""
    monkeypatch.setattr("pipelines.embed._has_cuda", lambda: torch.cuda.is_available())


def params_of(device: str, **options: object) -> EmbedParams:
    view = ViewParams(input="text", encoder="minilm", options=options)
    return EmbedParams(device=device, shard_samples=8, views={"text": view}, max_reject_ratio=0.2)


def embed(folder: Path, params: EmbedParams) -> features.Store:
    segments, ingest = publish_texts(folder / "align", TEXTS), publish_sources(folder / "ingest", {})
    store = folder / "features"
    embed_views(define_views(params), params, [segments], store, local_beam(2), ingest=ingest)
    return features.open(store)


def vectors(store: features.Store) -> np.ndarray:
    return np.asarray(store.get(sorted(TEXTS), "text"), np.float64)


def test_embed_on_two_gpus_gives_the_features_of_the_cpu_as_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_cpu = embed(tmp_path / "cpu", params_of("auto"))
    with simulated_gpus(2) as gpus:
        assert choose_device("auto") == "cuda"
        on_gpu = embed(tmp_path / "gpu", params_of("auto"))
        again = embed(tmp_path / "gpu", params_of("cuda"))
    assert min(gpus.launched[0], gpus.launched[1]) > 0
    said = capsys.readouterr().err
    assert "the model waited" in said
    assert said.count("samples encoded") == 2  # nothing the third time
    views = [store.views["text"] for store in (on_cpu, on_gpu, again)]
    assert views[0].rev != views[1].rev == views[2].rev
    assert views[0].deterministic
    assert not views[1].deterministic
    assert "another GPU" in str(views[1].caveat)
    cosines = (vectors(on_cpu) * vectors(on_gpu)).sum(axis=1)
    assert cosines.min() > 0.9999


def test_embed_publishes_nothing_where_a_gpu_failed_and_goes_on_where_it_is_well(tmp_path: Path) -> None:
    with simulated_gpus() as gpus:
        gpus.fail(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), after=800)
        with pytest.raises(StageError, match=r"the GPU failed, .* illegal memory access was encountered: run again"):
            embed(tmp_path, params_of("cuda"))
        assert not (tmp_path / "features" / "manifest.json").exists()
        gpus.recover()
        store = embed(tmp_path, params_of("cuda"))
    assert len(vectors(store)) == len(TEXTS)


def test_embed_says_that_a_gpu_did_not_hold_whole_batches(tmp_path: Path) -> None:
    with simulated_gpus(memory_bytes=94 << 20):  # of which the model takes 87
        store = embed(tmp_path, params_of("cuda", batch_tokens=4096))
        unchanged = embed(tmp_path, params_of("cuda", batch_tokens=4096))
    assert len(vectors(store)) == len(TEXTS)
    for found in (store, unchanged):
        caveat = str(found.views["text"].caveat)
        assert caveat.startswith("computed on CUDA")
        assert "; memory did not suffice for whole batches, so some were divided by " in caveat


def test_embed_says_that_a_gpu_does_not_hold_the_model(tmp_path: Path) -> None:
    with (
        simulated_gpus(memory_bytes=40 << 20),
        pytest.raises(StageError, match=r"view 'text': to load encoder 'minilm' takes more memory than 'cuda' has"),
    ):
        embed(tmp_path, params_of("cuda"))


def test_a_gpu_needs_to_hold_no_more_than_one_views_model(tmp_path: Path) -> None:
    views = {name: ViewParams(input="text", encoder="minilm", pooling=name) for name in ("mean", "max", "mean_std")}
    params = EmbedParams(device="cuda", shard_samples=8, views=views, max_reject_ratio=0.2)
    with simulated_gpus(memory_bytes=170 << 20):  # of which a model takes 87
        store = embed(tmp_path, params)
    assert [view.num_present for view in store.views.values()] == [len(TEXTS)] * 3


def test_a_precision_is_measured_on_the_gpu(tmp_path: Path) -> None:
    before = [publish_texts(tmp_path / "align", TEXTS)]
    with simulated_gpus():
        found = measure_precision(params_of("cuda", precision="float16"), "text", before, num_samples=6, threads=1)
        with pytest.raises(EncoderError, match=r"precision 'int8' is for 'cpu', and embed.device is 'cuda' here"):
            measure_precision(params_of("cuda", precision="int8"), "text", before, num_samples=6, threads=1)
    assert 0.9999 < found.cosine_N.min() < 1 - 1e-9
