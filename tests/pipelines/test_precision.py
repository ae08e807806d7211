from pathlib import Path
from typing import Any

import pytest
from counting import publish_rows, publish_texts

from features.errors import EncoderError, StageError
from features.sample import media_row
from pipelines.digests import sample_digests
from pipelines.params import EmbedParams
from pipelines.precision import measure_precision
from pipelines.view_params import ViewParams

TEXTS: dict[str, str | None] = {f"rec/{number}": "words and " * (1 + number % 5) for number in range(20)}


def params_of(**options: Any) -> EmbedParams:
    view = ViewParams(input="text", encoder="minilm", options=options)
    return EmbedParams(device="cpu", shard_samples=8, views={"text": view}, max_reject_ratio=0.2)


def test_measure_precision_compares_samples_with_float32(tmp_path: Path) -> None:
    before = [publish_texts(tmp_path / "align", TEXTS | {"rec/00": None})]
    found = measure_precision(params_of(precision="bfloat16"), "text", before, num_samples=6, threads=2)

    assert (found.precision, found.compile, found.cosine_N.shape) == ("bfloat16", False, (6,))
    assert 0.999 < found.cosine_N.min() < 1 - 1e-7
    assert min(found.seconds, found.plain_seconds) > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("txt", {"precision": "int8"}, "params.yaml declares no view 'txt'; it has text"),
        ("text", {}, "view 'text' runs in plain float32"),
        ("text", {"precision": "float16"}, "precision 'float16' is for 'cuda', and embed.device is 'cpu' here"),
        ("text", {"precision": "half"}, "must be one of float32, bfloat16"),
    ],
)
def test_measure_precision_says_what_cannot_be_measured(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        measure_precision(params_of(**options), name, [tmp_path], num_samples=2, threads=1)


def test_measure_precision_needs_samples(tmp_path: Path) -> None:
    before = [publish_texts(tmp_path / "align", {"rec/0": None})]
    with pytest.raises(StageError, match="no sample has text"):
        measure_precision(params_of(precision="bfloat16"), "text", before, num_samples=2, threads=1)


def test_measure_precision_says_that_memory_does_not_hold_a_model(tmp_path: Path) -> None:
    row = media_row(key="a", recording="a", group="a", split="train", variant=0, image=b"png", source_digest="0")
    before = [publish_rows(tmp_path / "align", [{**row, "digests": sample_digests(row)}])]
    options = {"size_px": 1 << 28, "precision": "bfloat16"}
    view = ViewParams(input="image", encoder="efficientnet-lite0", options=options)
    params = EmbedParams(device="cpu", shard_samples=8, views={"image": view}, max_reject_ratio=0.2)
    with pytest.raises(EncoderError, match=r"view 'image': to load .* takes more memory than 'cpu' has"):
        measure_precision(params, "image", before, num_samples=1, threads=1)
