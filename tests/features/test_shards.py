import errno
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ShardError
from features.shards import (
    Shard,
    cut_shards,
    describe_shard,
    iter_batches,
    read_shard,
    replacing,
    shard_file,
    shard_name,
    shard_writer,
    write_json,
)

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("media", pa.large_binary()),
        pa.field("cues", pa.list_(pa.struct([("text", pa.string())]))),
    ]
)
KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), unique=True).map(sorted)
NUMBERED = st.sets(st.integers(0, 99_999), max_size=400).map(lambda numbers: [f"{n:05d}" for n in sorted(numbers)])


def _row(key: str, media: bytes | None = None) -> dict[str, Any]:
    return {"key": key, "media": media, "cues": [{"text": "um"}]}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with shard_writer(path, SCHEMA) as writer:
        for row in rows:
            writer.append(row)


@given(KEYS | NUMBERED, st.integers(1, 40))
def test_cut_shards_covers_every_key_once_and_in_order(keys: list[str], target_rows: int) -> None:
    shards = cut_shards(keys, target_rows)

    assert [index for shard in shards for index in shard] == list(range(len(keys)))


@given(NUMBERED, st.integers(1, 40))
def test_cut_shards_keeps_sizes_within_bounds(keys: list[str], target_rows: int) -> None:
    sizes = [len(shard) for shard in cut_shards(keys, target_rows)]

    assert all(size <= 4 * target_rows for size in sizes)
    assert all(size >= max(1, target_rows // 4) for size in sizes[:-1])


def test_cut_shards_comes_near_its_target() -> None:
    sizes = [len(shard) for shard in cut_shards([f"{number:06d}" for number in range(20_000)], 64)]

    assert 48 < 20_000 / len(sizes) < 80


@given(NUMBERED, st.integers(0, 99_999), st.integers(1, 40))
def test_cut_shards_leaves_shards_before_an_added_key_alone(keys: list[str], number: int, target_rows: int) -> None:
    added = f"{number:05d}"
    before = cut_shards(keys, target_rows)
    after = cut_shards(sorted({*keys, added}), target_rows)

    # A shard's end is chosen among the keys up to its greatest size.
    last = 4 * target_rows - 1
    untouched = [shard for shard in before if shard.start + last < len(keys) and keys[shard.start + last] < added]
    assert after[: len(untouched)] == untouched


def test_cut_shards_moves_few_boundaries_for_one_key() -> None:
    keys = [f"rec{number * 7919 % 10_007:05d}/{number % 10}" for number in range(3_000)]
    whole = sorted(keys)
    before = set(_contents(whole, 16))
    changed = [len(before - set(_contents(sorted(set(keys) - {key}), 16))) for key in keys[::30]]

    assert max(changed) <= 4
    assert sum(changed) / len(changed) < 1.5


def _contents(keys: list[str], target_rows: int) -> list[tuple[str, ...]]:
    return [tuple(keys[shard.start : shard.stop]) for shard in cut_shards(keys, target_rows)]


# Every stage and every view is cut at these places. Were they to move, all shards of all stores would get other names
# and bytes, and DVC would store all of them again: so they may not change.
def test_cut_shards_is_pinned() -> None:
    keys = [f"rec{recording}/{segment:04d}" for recording in range(10) for segment in range(10)]

    assert [len(shard) for shard in cut_shards(keys, 10)] == [5, 7, 35, 5, 3, 24, 21]
    assert shard_name("rec0/0000") == "2fb4885ca6fc609a"
    assert shard_file(shard_name("rec0/0000"), "f" * 64) == "2fb4885ca6fc609a-ffffffffffffffff.arrow"


@pytest.mark.parametrize("keys", [["b", "a"], ["a", "a"]])
def test_cut_shards_refuses_keys_that_do_not_rise(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="keys must rise strictly"):
        cut_shards(keys, 10)


def test_cut_shards_refuses_an_empty_target() -> None:
    with pytest.raises(ValueError, match="target_rows is 0"):
        cut_shards(["a"], 0)


def test_shard_writer_reads_back_what_it_wrote(tmp_path: Path) -> None:
    rows = [_row("a", b"\x00\xff"), _row("b", None), {"key": "c", "media": b"", "cues": None}]
    _write(tmp_path / "folder" / "shard.arrow", rows)

    assert read_shard(tmp_path / "folder" / "shard.arrow").to_pylist() == rows
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["shard.arrow"]


def test_shard_writer_gives_equal_bytes_for_equal_rows(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _write(tmp_path / name, [_row(f"{number:03d}", bytes([number]) * number) for number in range(100)])

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_shard_writer_flushes_big_rows_in_batches(tmp_path: Path) -> None:
    media = bytes(17 << 20)
    _write(tmp_path / "shard.arrow", [_row(key, media) for key in "abc"])

    assert [batch.num_rows for batch in iter_batches(tmp_path / "shard.arrow")] == [2, 1]
    table = read_shard(tmp_path / "shard.arrow")
    assert table.column("key").to_pylist() == ["a", "b", "c"]
    assert table.column("media")[2].as_buffer().size == len(media)


def test_shard_writer_counts_text_inside_of_structs(tmp_path: Path) -> None:
    long = "x" * (33 << 20)
    _write(tmp_path / "shard.arrow", [{"key": key, "media": None, "cues": [{"text": long}]} for key in "ab"])

    assert [batch.num_rows for batch in iter_batches(tmp_path / "shard.arrow")] == [1, 1]


def test_shard_writer_leaves_nothing_when_the_block_raises(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield _row("a", bytes(40 << 20))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _write(tmp_path / "shard.arrow", rows())

    assert list(tmp_path.iterdir()) == []


def test_shard_writer_leaves_nothing_when_a_row_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowTypeError):
        _write(tmp_path / "shard.arrow", [{"key": "a", "media": 7, "cues": None}])

    assert list(tmp_path.iterdir()) == []


def test_shard_writer_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    _write(path, [_row("old")])
    with shard_writer(path, SCHEMA) as writer:
        writer.append(_row("new"))
        writer.flush()
        assert read_shard(path).column("key").to_pylist() == ["old"]

    assert read_shard(path).column("key").to_pylist() == ["new"]


def test_shard_writer_killed_in_the_middle_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pyarrow as pa; from pathlib import Path; from features.shards import shard_writer\n"
        "with shard_writer(Path(sys.argv[1]), pa.schema([('key', pa.string())])) as writer:\n"
        "    writer.append({'key': 'a'}); writer.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "shard.arrow"], cwd=Path(__file__).parents[2])

    assert killed.returncode == -9
    assert not (tmp_path / "shard.arrow").exists()


@pytest.mark.parametrize("kept", [0, 3, 8, 0.5, 0.99])
def test_read_shard_tells_a_truncated_file(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "shard.arrow"
    _write(path, [_row(key, bytes(1000)) for key in "abc"])
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])

    with pytest.raises(ShardError, match=r"shard\.arrow is no whole Arrow file .*run 'dvc repro'"):
        read_shard(path)
    with pytest.raises(ShardError, match=r"shard\.arrow is no whole Arrow file"):
        list(iter_batches(path))


def test_describe_shard_reads_the_file_itself(tmp_path: Path) -> None:
    _write(tmp_path / "full.arrow", [_row(key) for key in "abc"])
    _write(tmp_path / "empty.arrow", [])

    full = describe_shard("name", tmp_path / "full.arrow")
    assert (full.file, full.num_rows, full.first_key, full.last_key) == ("full.arrow", 3, "a", "c")
    empty = describe_shard("name", tmp_path / "empty.arrow")
    assert (empty.num_rows, empty.first_key, empty.last_key) == (0, None, None)
    assert len(full.digest) == 64
    assert Shard(**full.to_json()) == full


def test_replacing_names_the_file_that_a_full_disk_did_not_take(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as raised, replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]")

    assert raised.value.filename == str(tmp_path / "file")


def test_replacing_cleans_up_when_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_write_json_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    write_json(path, {"b": "é", "a": 1})
    assert path.read_text(encoding="utf-8") == '{\n "a": 1,\n "b": "é"\n}\n'

    with pytest.raises(TypeError):
        write_json(path, {"a": {1, 2}})
    assert json.loads(path.read_bytes()) == {"a": 1, "b": "é"}
    assert [found.name for found in tmp_path.iterdir()] == ["content.json"]


@given(st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8))
def test_write_json_holds_any_file_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / "names.json"
    write_json(path, [name])

    assert json.loads(path.read_bytes()) == json.loads(json.dumps([name]))
