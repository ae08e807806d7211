"""Making one shard of a view: what is encoded, what is copied, what is absent and what is rejected."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_align import RATE_HZ, recording

from features.encoders.base import Audio, Media, Prepared, Video
from features.errors import ShardError
from features.reasons import Reason
from features.rev import digest_bytes, digest_file, feature_key
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import read_shard, shard_writer
from features.view import View
from pipelines.digests import sample_digests
from pipelines.job import ShardRecord, ShardTask
from pipelines.progress import ShardProgress
from pipelines.view_worker import Copies, EncodeShard, MediaFile, Samples, ShardRows, as_media

TEXTS = ["one", None, "three", "fourteen", "five"]


@dataclass
class CountingEncoder:
    """A letter of a text is a vector (its code, its place, 1) of half a second; notes every text it prepares."""

    inputs: frozenset[str] = frozenset({"text"})
    batch_size: int = 4
    dim: int = 3
    seen: list[str] = field(default_factory=list)
    num_loads: int = 0

    def definition(self) -> dict[str, Any]:
        return {"name": "counting", "weights_digest": None}

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        return self.batch_size

    def load(self, device: str) -> None:
        self.num_loads += 1

    def prepare(self, media: Media) -> Prepared:
        assert isinstance(media, str)
        self.seen.append(media)
        codes = {"?": np.nan, "!": 1e6}  # no number, and one that float16 cannot hold
        units = [np.array([codes.get(letter, ord(letter)), place, 1.0]) for place, letter in enumerate(media)]
        starts_T = np.arange(len(media)) / 2
        return Prepared(units, np.stack([starts_T, starts_T + 0.5], axis=1))

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        assert len(units_B) == self.batch_size
        return [unit[None] for unit in units_B]

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [vectors for unit in units for vectors in self.encode(unit[None])]


def write_media(folder: Path, texts: Sequence[str | None]) -> Path:
    """A shard of samples with these texts."""
    path = folder / "media.arrow"
    with shard_writer(path, MEDIA_SCHEMA) as writer:
        for index, text in enumerate(texts):
            identity = {"key": f"rec/{index}", "recording": "rec", "group": "rec", "split": "train", "variant": 0}
            row = media_row(**identity, text=text, source_digest="0")
            writer.append({**row, "digests": sample_digests(row)})
    return path


def make(
    worker: EncodeShard,
    folder: Path,
    media: Path,
    *,
    copies: Sequence[Copies] = (),
    repeats: Mapping[int, int] = {},
    progress: ShardProgress | None = None,
) -> tuple[ShardRecord, pa.Table]:
    """The record and the rows of a shard over all samples of the media shard; copies: rows that are stored already;
    repeats: rows whose text is that of another."""
    texts = read_shard(media)["text"].to_pylist()
    elsewhere = {*repeats, *(row for copy in copies for row in copy.targets_N.tolist())}
    rows = ShardRows(
        samples=Samples([str(media)], np.zeros(len(texts), np.int32), np.arange(len(texts), dtype=np.int32)),
        encode_N=np.array([row for row, text in enumerate(texts) if text is not None and row not in elsewhere]),
        repeats=list(repeats.items()),
        copies=list(copies),
    )
    task = ShardTask("shard", str(folder), "shard.arrow", "0", len(texts), rows)
    record = worker(task, progress or ShardProgress(folder / "progress"))
    return record, read_shard(task.path)


def copies_of(path: Path, targets: Sequence[int], rows: Sequence[int]) -> Copies:
    return Copies(str(path), digest_file(path), np.array(targets), np.array(rows))


def worker_of(encoder: CountingEncoder, **declared: Any) -> EncodeShard:
    return EncodeShard(View(name="letters", input="text", encoder="counting", **declared), encoder, "cpu", "rev", None)


def test_encode_shard_keeps_the_order_and_a_null_where_a_sample_lacks_the_modality(tmp_path: Path) -> None:
    media = write_media(tmp_path, TEXTS)
    record, table = make(worker_of(CountingEncoder(), pooling="max"), tmp_path, media)

    assert table["key"].to_pylist() == [f"rec/{index}" for index in range(5)]
    inputs = [None if text is None else digest_bytes(text.encode()) for text in TEXTS]
    assert table["feature_key"].to_pylist() == [feature_key("rev", digest) for digest in inputs]
    assert table["embedding"].to_pylist() == [
        None if text is None else [max(map(ord, text)), len(text) - 1, 1] for text in TEXTS
    ]
    assert (record.num_in, record.shard.num_rows, record.rejects) == (5, 5, ())
    assert (tmp_path / "progress").read_text() == "5 0"


@pytest.mark.parametrize("pooling", ["mean", "sequence"])
def test_encode_shard_copies_stored_rows_byte_for_byte_without_encoding_them(tmp_path: Path, pooling: str) -> None:
    media = write_media(tmp_path, TEXTS)
    _, before = make(worker_of(CountingEncoder(), pooling=pooling), tmp_path / "before", media)
    encoder = CountingEncoder()
    copies = copies_of(tmp_path / "before" / "shard.arrow", [0, 3], [0, 3])
    record, after = make(worker_of(encoder, pooling=pooling), tmp_path / "after", media, copies=[copies])

    assert sorted(encoder.seen) == ["five", "three"]
    assert after.equals(before)
    assert (tmp_path / "after" / "shard.arrow").read_bytes() == (tmp_path / "before" / "shard.arrow").read_bytes()
    assert record.rejects == ()


def test_encode_shard_takes_nothing_from_a_file_that_is_not_what_was_published(tmp_path: Path) -> None:
    media = write_media(tmp_path, ["one", "two"])
    _, _ = make(worker_of(CountingEncoder()), tmp_path / "old", media)
    copies = replace(copies_of(tmp_path / "old" / "shard.arrow", [1], [0]), digest="0" * 64)
    with pytest.raises(ShardError, match="is not what the manifest says: delete it and run 'dvc repro'"):
        make(worker_of(CountingEncoder()), tmp_path / "new", media, copies=[copies])


def test_encode_shard_is_a_feed_until_its_file_is_written(tmp_path: Path) -> None:
    """So that another feed keeps to its own thread meanwhile, as it does where there are as many as decoders."""
    worker = replace(worker_of(CountingEncoder(batch_size=1)), threads=2)
    readers: list[str] = []

    def read() -> str:
        readers.append(threading.current_thread().name.partition("_")[0])
        return "two"

    class Asking(ShardProgress):
        """Reports when the file has been written."""

        def report(self) -> None:
            feed_too()
            super().report()

    def feed_too() -> None:
        session = worker.shared.acquire(None)
        with session.attending():
            assert len(list(session.encode([(0, read)]))) == 1

    inputs = write_media(tmp_path, ["one"])
    make(worker, tmp_path, inputs, progress=Asking(tmp_path / "progress"))
    feed_too()
    assert readers == ["MainThread", "decode"]


def test_encode_shard_takes_a_stored_row_at_its_word(tmp_path: Path) -> None:
    """What is copied is the stored row, not the media beside it."""
    other = write_media(tmp_path / "other", ["zzz"])
    make(worker_of(CountingEncoder()), tmp_path / "old", other)
    media = write_media(tmp_path, ["one", "two"])
    copies = copies_of(tmp_path / "old" / "shard.arrow", [1], [0])
    _, table = make(worker_of(CountingEncoder()), tmp_path / "new", media, copies=[copies])

    assert table["embedding"].to_pylist()[1] == [ord("z"), 1, 1]


@pytest.mark.parametrize("bad", ["a?c", "a!c"])
def test_encode_shard_rejects_what_is_not_finite_and_leaves_its_neighbours_alone(tmp_path: Path, bad: str) -> None:
    _, whole = make(worker_of(CountingEncoder()), tmp_path / "whole", write_media(tmp_path, ["one", "abc", "five"]))
    media = write_media(tmp_path / "broken", ["one", bad, "five"])
    record, broken = make(worker_of(CountingEncoder()), tmp_path / "with", media)

    (reject,) = record.rejects
    assert (reject.key, reject.stage, reject.reason, reject.dropped) == ("rec/1", "embed", Reason.NON_FINITE, "text")
    assert reject.text.startswith("view letters: ")
    assert broken["embedding"].to_pylist()[1] is None
    for row in (0, 2):
        assert broken.slice(row, 1).equals(whole.slice(row, 1))
    assert (tmp_path / "with" / "progress").read_text() == "3 1"


def test_encode_shard_keeps_the_intervals_of_sequences(tmp_path: Path) -> None:
    media = write_media(tmp_path, ["ab", None, "c"])
    _, table = make(worker_of(CountingEncoder(), pooling="sequence", dtype="float32"), tmp_path, media)

    assert table["embedding"].to_pylist() == [[[97, 0, 1], [98, 1, 1]], None, [[99, 0, 1]]]
    assert table["start_s"].to_pylist() == [[0.0, 0.5], None, [0.0]]
    assert table["end_s"].to_pylist() == [[0.5, 1.0], None, [0.5]]


def test_encode_shard_loads_its_model_once_for_many_shards(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    worker = worker_of(encoder)
    for name in ("first", "second"):
        make(worker, tmp_path / name, write_media(tmp_path / name, ["one"]))

    assert encoder.num_loads == 1


def test_encode_shard_loads_no_model_where_there_is_nothing_to_encode(tmp_path: Path) -> None:
    media = write_media(tmp_path, ["one", None])
    make(worker_of(CountingEncoder()), tmp_path / "old", media)
    encoder = CountingEncoder()
    worker = replace(worker_of(encoder), dim=encoder.dim)
    copies = copies_of(tmp_path / "old" / "shard.arrow", [0], [0])
    _, table = make(worker, tmp_path / "new", media, copies=[copies])

    assert table.equals(read_shard(tmp_path / "old" / "shard.arrow"))
    assert encoder.num_loads == 0


def test_encode_shard_encodes_equal_texts_once_and_rejects_them_all(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    media = write_media(tmp_path, ["one", "a?", "one", "a?"])
    record, table = make(worker_of(encoder), tmp_path / "new", media, repeats={2: 0, 3: 1})

    assert sorted(encoder.seen) == ["a?", "one"]
    assert [reject.key for reject in record.rejects] == ["rec/1", "rec/3"]
    embeddings = table["embedding"].to_pylist()
    assert embeddings[0] == embeddings[2] is not None
    assert (tmp_path / "new" / "progress").read_text() == "4 1"


@pytest.mark.parametrize("field", ["text", "digests"])
def test_media_that_are_not_what_their_digest_says_are_not_encoded(tmp_path: Path, field: str) -> None:
    media = write_media(tmp_path, ["one", "two"])
    content = bytearray(media.read_bytes())
    content[content.index({"text": b"two", "digests": digest_bytes(b"two").encode()}[field])] ^= 1
    media.write_bytes(content)

    encoder = CountingEncoder()
    with pytest.raises(ShardError, match=r"media.arrow is damaged, the text of 'rec/1' is not what .*: delete it and"):
        make(worker_of(encoder), tmp_path / "new", media)
    assert "two" not in encoder.seen
    assert not list((tmp_path / "new").glob("*.arrow"))


def test_a_part_of_the_media_that_no_view_takes_may_be_damaged(tmp_path: Path) -> None:
    """What enters a vector is looked at, not the whole shard, which may hold hours of video beside a text."""
    path = tmp_path / "media.arrow"
    with shard_writer(path, MEDIA_SCHEMA) as writer:
        row = {**recording(), "start_s": 0.0, "text": "hello", "image": b"some png"}
        writer.append({**row, "digests": sample_digests(row)})
    path.write_bytes(path.read_bytes().replace(b"some png", b"same png"))

    _, made = make(worker_of(CountingEncoder()), tmp_path / "new", path)
    assert made["embedding"].null_count == 0


def test_sounds_are_read_from_whatever_batch_of_a_shard_they_lie_in(tmp_path: Path) -> None:
    path, waves = tmp_path / "media.arrow", [b"\1\0" * 5, None, b"\2\0" * 7, b"\3\0"]
    with shard_writer(path, MEDIA_SCHEMA) as writer:
        for index, pcm in enumerate(waves):
            row = {**recording(), "key": f"rec/{index}", "start_s": 0.0, "audio": pcm}
            writer.append({**row, "digests": sample_digests(row)})
            if index == 1:
                writer.flush()

    media = MediaFile(path, "audio")
    for row, number, length in ((3, 3, 1), (0, 1, 5), (2, 2, 7)):
        sound = media.read(row)
        assert isinstance(sound, Audio)
        assert (sound.wave_T * 2**15).tolist() == [number] * length


def test_media_count_time_from_the_start_of_the_sample() -> None:
    row = {**recording(audio_start_s=2.5, frame_times_s=[1.75 + index / 4 for index in range(36)]), "start_s": 2.0}
    audio, video = (as_media(row, modality) for modality in ("audio", "video"))

    assert isinstance(audio, Audio)
    assert (audio.start_s, audio.rate_hz, len(audio.wave_T)) == (0.5, RATE_HZ, 10 * RATE_HZ)
    assert isinstance(video, Video)
    assert video.times_s[:2].tolist() == [-0.25, 0.0]
    assert video.end_s == 7.0
    assert as_media({"text": "hello"}, "text") == "hello"
    assert as_media({"image": b"png"}, "image") == b"png"
