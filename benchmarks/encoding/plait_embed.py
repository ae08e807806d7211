"""Plait end to end: embed, from the shards of samples to a published store, with every check on."""

from pathlib import Path
from typing import Any

import numpy as np

import features
from encoding.models import random_model
from encoding.segments import publish_samples
from encoding.tasks import Task
from pipelines.embed import define_views, embed_views
from pipelines.ingest import RAW_MANIFEST
from pipelines.params import BeamParams, EmbedParams
from pipelines.view_params import ViewParams

_BEAM = BeamParams(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner", options=[], threads=2)


class Way:
    """The samples lie in shards as the stage before embed leaves them."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        view = ViewParams(input=task.modality, dtype="float32", **_declared(task, folder))
        self.params = EmbedParams(device=task.device, shard_samples=256, views={"view": view}, max_reject_ratio=0.0)
        self.folder = folder
        self.segments = publish_samples(task, paths, folder / "align")
        self.ingest = publish_no_sources(folder / "ingest")

    def run(self) -> np.ndarray:
        """float32 [sample, dim], read from the store."""
        store = self.folder / "features"
        embed_views(define_views(self.params), self.params, [self.segments], store, _BEAM, ingest=self.ingest)
        return np.concatenate(list(features.open(store).scan("view")))


def _declared(task: Task, folder: Path) -> dict[str, Any]:
    """What params.yaml would declare, with the file of the weights where they are no packaged ones."""
    if task.random_timm is None:
        return task.view
    from safetensors.torch import save_file

    weights = folder / "weights.safetensors"
    save_file(random_model(task.random_timm).state_dict(), weights)
    return {**task.view, "options": {**task.view["options"], "weights": str(weights)}}


def publish_no_sources(folder: Path) -> Path:
    """An account of raw files that names none."""
    import pyarrow.parquet as pq

    from pipelines.raw import RAW_SCHEMA

    folder.mkdir()
    pq.write_table(RAW_SCHEMA.empty_table(), folder / RAW_MANIFEST)
    return folder
