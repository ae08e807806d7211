"""A view of texts and one that is reduced from it, for tests of reduced views."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counting import counting_view, publish_rows, publish_sources, text_row
from shard_work import local_beam

from features.sample import MediaRow
from pipelines.digests import sample_digests
from pipelines.embed import embed_views
from pipelines.params import EmbedParams
from pipelines.reduced_views import ReducedView, define_reduced
from pipelines.view_params import ViewParams
from pipelines.view_plan import DefinedView

STEPS = ["standardise", {"pca": 2, "whiten": True}, "l2"]
TEXTS: dict[str, str | None] = {f"train{index:02d}": f"text number {index}" for index in range(24)}
TEXTS |= {f"val{index:02d}": f"other text {index}" for index in range(8)}
TEXTS |= {"train05": None, "train11": "bad", "val03": None}
PARAMS = EmbedParams(
    device="cpu", shard_samples=4, views={"words": ViewParams(input="text", encoder="x")}, max_reject_ratio=0.2
)


def both(log: Path, steps: Any = STEPS, **view: Any) -> list[DefinedView | ReducedView]:
    """A view of a counting encoder, and one that is reduced from it."""
    base = counting_view(log, **view)
    return [base, define_reduced("small", base, steps, "float32")]


def rows_of(texts: Mapping[str, str | None]) -> list[MediaRow]:
    """Segments of these texts, whose keys begin with their split, and end in ~1 if they are augmented copies; one
    without a text has an image."""
    rows = []
    for key, text in texts.items():
        row = text_row(key, text) | {"split": key.rstrip("~0123456789"), "variant": int("~" in key)}
        row |= {"image": b"an image" if text is None else None}
        rows.append({**row, "digests": sample_digests(row)})
    return rows


def run(folder: Path, texts: Mapping[str, str | None], defined: Any, *, threads: int = 2) -> Path:
    """Embed the texts into folder/features, and give that folder."""
    segments = publish_rows(folder / "align", rows_of(texts))
    sources = publish_sources(folder / "ingest", {})
    embed_views(defined, PARAMS, [segments], folder / "features", local_beam(threads), ingest=sources)
    return folder / "features"
