"""An encoder that counts its work, and the folders of earlier stages that feed it."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shard_work import local_beam

from features.encoders.base import Media, Prepared, TimedText
from features.reasons import MediaError, Reason
from features.rev import digest_json
from features.sample import MEDIA_SCHEMA, MediaRow, media_row
from features.shards import cut_shards, describe_shard, shard_file, shard_name, shard_writer
from features.view import View
from pipelines.digests import sample_digests
from pipelines.embed import embed_views
from pipelines.ingest import RAW_MANIFEST
from pipelines.job import ShardRecord
from pipelines.params import EmbedParams
from pipelines.raw import RAW_SCHEMA, file_ref
from pipelines.stage import publish_stage
from pipelines.view_params import ViewParams
from pipelines.view_plan import DefinedView, define_view

DIM = 4
_ROWS = 6  # in a shard of segments, which is not cut where shards of features are


@dataclass
class CountingEncoder:
    """Each word of a text becomes a vector that its hash decides, as long as it is said or half a second. Every text
    that it is given becomes a line of the log, from whatever thread or process. The word "bad" cannot be encoded."""

    log: Path
    weights: str = "one"
    settings: dict[str, Any] = field(default_factory=dict)
    nondeterministic: str | None = None
    inputs: frozenset[str] = frozenset({"text"})
    batch_size: int = 4
    is_on_cpu: bool = False
    most_units: int = 4  # that memory holds
    side: int = 0  # of the square of numbers that the model is
    dim: int = DIM
    about: dict[str, Any] = field(default_factory=dict)

    def definition(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.weights.encode()).hexdigest()
        said = {"nondeterministic": self.nondeterministic} if self.nondeterministic else {}
        return {"name": "counting", "weights_digest": digest, "settings": self.settings, **said}

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        return self.batch_size

    def load(self, device: str) -> None:
        _note(self.log.with_suffix(".loads"), device)
        np.empty((self.side, self.side))

    def prepare(self, media: Media) -> Prepared:
        text = media.text if isinstance(media, TimedText) else media
        assert isinstance(text, str)
        _note(self.log, text)
        words = text.split()
        if "bad" in words:
            raise MediaError(Reason.UNDECODABLE, "a bad word")
        starts_T = np.arange(len(words)) / 2
        times_T2 = np.stack([starts_T, starts_T + 0.5], axis=1)
        if isinstance(media, TimedText):
            times_T2 = np.array([(word.start_s, word.end_s) for word in media.words])
        return Prepared([self._vector(word) for word in words], times_T2)

    def _vector(self, word: str) -> np.ndarray:
        digest = hashlib.sha256(f"{self.weights} {self.settings} {word}".encode()).digest()
        return np.frombuffer(digest[:DIM], np.uint8).astype(np.float32)

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        assert len(units_B) <= self.batch_size
        if len(units_B) > self.most_units:
            raise MemoryError
        return [unit[None] for unit in units_B]

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [vectors for unit in units for vectors in self.encode(unit[None])]


def _note(path: Path, line: str) -> None:
    with open(path, "a") as log:
        log.write(f"{line}\n")


def take_log(path: Path) -> list[str]:
    """The lines of a log since it was last taken, sorted."""
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def counting_view(log: Path, name: str = "words", pooling: Any = "mean", **encoder: Any) -> DefinedView:
    """A text view of a counting encoder; encoder: its fields."""
    view = View(name=name, input="text", encoder="counting", pooling=pooling)
    return define_view(view, CountingEncoder(log, **encoder), "cpu")


def text_row(key: str, text: str | None) -> MediaRow:
    """A segment with a text or without; its recording is what stands before the slash."""
    recording = key.partition("/")[0]
    identity = {"key": key, "recording": recording, "group": recording, "split": "train", "variant": 0}
    row = media_row(**identity, text=text, source_digest="0")
    return {**row, "digests": sample_digests(row)}


def publish_rows(folder: Path, rows: Iterable[MediaRow]) -> Path:
    """The folder of the stage before embed with these rows in it, sorted by key."""
    shutil.rmtree(folder, ignore_errors=True)
    ordered = sorted(rows, key=lambda row: str(row["key"]))
    records = []
    for span in cut_shards([row["key"] for row in ordered], _ROWS):
        part = ordered[span.start : span.stop]
        name = shard_name(part[0]["key"])
        path = folder / shard_file(name, digest_json([[row["key"], row["digests"]] for row in part]))
        with shard_writer(path, MEDIA_SCHEMA) as writer:
            for row in part:
                writer.append(row)
        records.append(ShardRecord(describe_shard(name, path), "0", len(part), ()))
    publish_stage(folder, stage="align", settings={}, records=records, before=folder / "none")
    return folder


def publish_texts(folder: Path, texts: Mapping[str, str | None]) -> Path:
    """The folder of the stage before embed with a segment of each text by its key."""
    return publish_rows(folder, (text_row(key, text) for key, text in texts.items()))


def publish_sources(folder: Path, uris: Mapping[str, str]) -> Path:
    """The folder of ingest with one audio file a recording."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"key": key, "group": key, "split": "train", "audio": file_ref(uri)} for key, uri in sorted(uris.items())]
    pq.write_table(pa.Table.from_pylist(rows, schema=RAW_SCHEMA), folder / RAW_MANIFEST)
    return folder


def embed_texts(
    folder: Path,
    texts: Mapping[str, str | None],
    defined: Sequence[DefinedView],
    *,
    threads: int = 2,
    max_reject_ratio: float = 0.2,
) -> Path:
    """Embed the texts into folder/features in shards of about four, and give that folder."""
    rows = [text_row(key, text) for key, text in texts.items()]
    return embed_rows(folder, rows, defined, threads=threads, max_reject_ratio=max_reject_ratio)


def embed_rows(
    folder: Path,
    rows: Iterable[MediaRow],
    defined: Sequence[DefinedView],
    *,
    threads: int = 2,
    max_reject_ratio: float = 0.2,
) -> Path:
    """Embed segments with texts into folder/features in shards of about four, and give that folder."""
    segments = publish_rows(folder / "align", rows)
    if not (folder / "ingest").exists():
        publish_sources(folder / "ingest", {})
    params = EmbedParams(
        device="cpu",
        shard_samples=4,
        views={view.view.name: ViewParams(input="text", encoder="counting") for view in defined},
        max_reject_ratio=max_reject_ratio,
    )
    store = folder / "features"
    embed_views(defined, params, [segments], store, local_beam(threads), ingest=folder / "ingest")
    return store
