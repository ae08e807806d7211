"""Beam's RunInference on its runner in memory: a step that reads and shapes, then a model handler, then a sink."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from encoding.models import Network, Prepared, load_network, load_shaper
from encoding.tasks import Task


class Way:
    """Samples keep their numbers as keys, as Beam has no order."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task, self.folder = task, folder
        self.numbered = [(number, str(path)) for number, path in enumerate(paths)]

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            (
                pipeline
                | "List" >> beam.Create(self.numbered)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(_Read(self.task))
                | "Encode" >> RunInference(KeyedModelHandler(_Handler(self.task)))
                | "Row" >> beam.MapTuple(lambda number, vector: {"number": number, "vector": vector})
                | "Write" >> beam.io.WriteToParquet(str(self.folder / "vectors"), _SCHEMA, file_name_suffix=".parquet")
            )
        table = pq.read_table(self.folder).sort_by("number")
        return np.stack(table["vector"].to_numpy())


_SCHEMA = pa.schema({"number": pa.int64(), "vector": pa.list_(pa.float32())})


class _Read(beam.DoFn):
    def __init__(self, task: Task) -> None:
        self.task = task

    def setup(self) -> None:
        self.shaper = load_shaper(self.task)

    def process(self, numbered: tuple[int, str]) -> Iterator[tuple[int, Prepared]]:
        number, path = numbered
        yield number, self.shaper.prepare(Path(path))


class _Handler(ModelHandler[Prepared, np.ndarray, Network]):
    """Those that Beam brings for PyTorch take tensors of one shape; texts, sounds and clips have others."""

    def __init__(self, task: Task) -> None:
        super().__init__(min_batch_size=task.batch_size, max_batch_size=task.batch_size)
        self.task = task

    def load_model(self) -> Network:
        self.shaper = load_shaper(self.task)
        return load_network(self.task)

    def run_inference(
        self, batch: Sequence[Prepared], model: Network, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[np.ndarray]:
        return model.encode(self.shaper.collate(list(batch)))
