"""What decides a view's rev and its feature keys, and what of its shards has to be made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from features.encoders.catalogue import make_encoder
from features.errors import EncoderError
from features.rev import digest_json
from features.view import View
from pipelines.embed import define_views
from pipelines.inventory import INVENTORY_SCHEMA
from pipelines.params import EmbedParams
from pipelines.published import read_published
from pipelines.view_params import ViewParams
from pipelines.view_plan import DefinedView, ViewPlan, define_view, plan_view

SOUND = View(name="sound", input="audio", encoder="logmel-mfcc")


def define(view: View, device: str = "cpu") -> DefinedView:
    return define_view(view, make_encoder(view), device)


def plan(view: View, folder: Path, digests: Sequence[str | None] = ("a", None, "b", "a")) -> ViewPlan:
    """The plan for samples of these inputs in one shard, where nothing is published."""
    columns: dict[str, list[Any]] = {name: [None] * len(digests) for name in INVENTORY_SCHEMA.names}
    columns |= {
        "key": [f"rec{index}" for index in range(len(digests))],
        f"digest_{view.input}": list(digests),
        "path": ["media.arrow"] * len(digests),
        "row": list(range(len(digests))),
    }
    inventory = pa.table(columns, schema=INVENTORY_SCHEMA)
    return plan_view(define(view), inventory, [range(len(digests))], read_published(folder))


def test_plan_view_encodes_each_input_once(tmp_path: Path) -> None:
    planned = plan(SOUND, tmp_path)
    (task,) = planned.tasks

    assert (task.inputs.samples.paths, task.inputs.samples.row_N.tolist()) == (["media.arrow"], [0, 1, 2, 3])
    assert (task.inputs.encode_N.tolist(), task.inputs.repeats) == ([0, 2], [(3, 0)])
    assert (planned.num_to_encode, planned.kept, planned.rejects, planned.dim) == (2, {}, [], None)


def test_a_shard_is_named_by_its_rev_keys_and_inputs(tmp_path: Path) -> None:
    def file(view: View = SOUND, digests: Sequence[str | None] = ("a", None)) -> str:
        (name,) = plan(view, tmp_path, digests).files
        return name

    assert file() == file(View(name="other", input="audio", encoder="logmel-mfcc"))
    others = {
        file(digests=["a", ""]),
        file(digests=[None, "a"]),
        file(digests=["b", None]),
        file(digests=["a", None, None]),
        file(View(name="sound", input="audio", encoder="logmel-mfcc", pooling="max")),
    }
    assert len(others - {file()}) == 5


def test_a_rev_changes_with_the_bytes_of_the_weights_and_not_with_their_place(tmp_path: Path) -> None:
    revs = {}
    for name, content in (("one", b"one"), ("moved", b"one"), ("other", b"other")):
        weights = tmp_path / f"{name}.safetensors"
        weights.write_bytes(content)
        options = {"weights": str(weights)}
        revs[name] = define(View(name="image", input="image", encoder="timm:resnet18", options=options)).rev

    assert revs["one"] == revs["moved"] != revs["other"]


def test_a_rev_covers_device_code_and_libraries() -> None:
    cpu, cuda = (define(SOUND, device) for device in ("cpu", "cuda"))

    assert cpu.rev != cuda.rev
    for part in ("code", "worker", "libraries", "batch_size", "settings", "weights_digest"):
        assert SOUND.rev({**cpu.definition, part: digest_json(part)}) != cpu.rev


@pytest.mark.parametrize(
    ("modality", "encoder"),
    [("text", "wordllama"), ("image", "hog"), ("image", "colour-histogram"), ("video", "optical-flow")],
)
def test_a_rev_is_the_same_with_a_gpu_where_the_encoder_has_no_use_for_one(modality: str, encoder: str) -> None:
    cpu, cuda = (define(View(name="view", input=modality, encoder=encoder), device) for device in ("cpu", "cuda"))
    assert cpu.rev == cuda.rev
    assert cuda.device == "cpu"


@pytest.mark.parametrize("options", [{}, {"rate_hz": 16000}])
def test_a_rev_stays_when_an_option_says_the_default(options: dict[str, Any]) -> None:
    assert define(View(name="sound", input="audio", encoder="logmel-mfcc", options=options)).rev == define(SOUND).rev


def test_a_pin_of_the_weights_that_are_here_changes_no_rev() -> None:
    def of(pin: str | None) -> View:
        return View(name="words", input="text", encoder="wordllama", weights_digest=pin)

    digest = define(of(None)).definition["weights_digest"]
    assert define(of(digest)).rev == define(of(None)).rev
    with pytest.raises(
        EncoderError, match="view 'words' pins weights_digest 00, but its encoder 'wordllama' has weights"
    ):
        define(of("00"))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"encoder": "transformers:nobody/none"}, "run 'plait encoders fetch transformers:nobody/none'"),
        ({"encoder": "hog"}, "'hog' takes image or video, not text"),
        ({"encoder": "minilm", "options": {"batch_tokens": 0}}, "'batch_tokens'.* is 0; it must be a whole number"),
        ({"encoder": "wordllama", "weights_digest": "0" * 64}, "view 'words' pins weights_digest 000"),
    ],
)
def test_a_view_that_cannot_be_computed_here_is_refused_before_any_work(declared: dict[str, Any], said: str) -> None:
    params = EmbedParams(
        device="cpu", shard_samples=1, views={"words": ViewParams(input="text", **declared)}, max_reject_ratio=0.0
    )
    with pytest.raises(EncoderError, match=said):
        define_views(params)
