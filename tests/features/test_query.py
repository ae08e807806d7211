import shutil

import numpy as np
import pyarrow as pa
import pytest
from building import build_store

import features
from features.columns import widen
from features.errors import QueryError, ShardError
from features.store import Store
from features.writing import vector_column

KEYS = [f"rec{row:02}" for row in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    half = [None if row % 5 == 0 else np.full(3, row / 2, np.float16) for row in range(30)]
    pairs = [None if row % 6 == 0 else np.full((2, 2), row, np.float16) for row in range(30)]
    times = [None if pair is None else np.array([[0.0, 1], [1, 2]]) for pair in pairs]
    views = {
        "audio": {"vectors": half, "dtype": "float16"},
        "text": {"vectors": [np.full(2, row, np.float32) for row in range(30)], "dtype": "float32"},
        "frames": {"vectors": pairs, "times": times, "dtype": "float16"},
    }
    samples = [{"key": key, "label": "xy"[row % 2], "text": f"t{row}"} for row, key in enumerate(KEYS)]
    samples[4]["words"] = [{"start_s": 0.5, "end_s": 1.0, "text": "hello"}]
    rejects = [{"key": "r", "stage": "clean", "reason": "silent", "dropped": "audio", "text": "too quiet"}]
    build_store(folder, samples, views, shard_rows=3, rejects=rejects)
    return folder


@pytest.fixture(scope="module")
def store(folder) -> Store:
    return features.open(folder)


def test_sql_counts_labels_of_samples_with_an_embedding(store):
    found = store.sql("select label, count(*) as n from samples where audio is not null group by 1 order by 1")
    assert found.to_pylist() == [{"label": "x", "n": 12}, {"label": "y", "n": 12}]


def test_sql_agrees_with_the_table_on_every_column(store):
    found = store.sql("select * from samples").to_pylist()
    assert found == store.table(list(store.views)).to_pylist()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("audio is null", [0, 5, 10, 15, 20, 25]),
        ("frames is null and audio is null", [0]),
        ("audio[1] > 14", [29]),
        ("audio = [0.5, 0.5, 0.5]::float[3]", [1]),
        ("text_embedding[2] = 7", [7]),
        ("text = 't8'", [8]),
        ("words[1].text = 'hello' and words[1].start_s < 1", [4]),
        ("frames[1][1] = 13 and frames_end_s[2] = 2", [13]),
        ("key in (select max(key) from samples)", [29]),
        ("false", []),
    ],
)
def test_sql_conditions_select_the_right_samples(store, condition, rows):
    keys = [KEYS[row] for row in rows]
    assert store.sql(f"select key from samples where {condition}")["key"].to_pylist() == keys
    assert store.table([], where=condition)["key"].to_pylist() == keys


@pytest.mark.parametrize(
    "where",
    [
        "",
        "--",
        "true /* open",
        "(label = 'x'",
        "label = 'x')",
        "true) union select (1",
        "true) union select __row + 1000000 from samples where (true",
        "true; select 1",
        "true; drop view samples",
        "true limit 3",
        "true order by 1",
        "true, true",
        "select true",
        "count(*) > 1",
        "audio",
        "label",
        "?",
        "key = '\ud800'",
        "exists (from read_text('/etc/passwd'))",
    ],
)
def test_condition_that_is_none_is_refused(store, where):
    with pytest.raises(QueryError) as error:
        store.table([], where=where)
    assert "\n" not in str(error.value)


def test_sql_of_one_key_opens_the_files_of_its_shard_only(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    store = features.open(copied)
    index = next(
        index for index, shard in enumerate(store.manifest.shards) if shard.first_key <= "rec17" <= shard.last_key
    )
    shard = store.manifest.shards[index]
    kept = {f"samples/{shard.file}", f"audio/{store.views['audio'].files[shard.name]}"}
    assert len(store.manifest.shards) > 2
    for path in [path for path in copied.rglob("*.arrow") if path.relative_to(copied).as_posix() not in kept]:
        path.unlink()

    found = store.sql("select audio, key from samples where key = 'rec17' and audio is not null")

    assert found.to_pylist() == [{"audio": [8.5] * 3, "key": "rec17"}]
    assert store.table(["audio"], where="key between 'rec17' and 'rec17'").num_rows == 1


def test_condition_that_only_says_the_name_of_a_view_opens_no_file_of_it(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copied / "audio")
    store = features.open(copied)

    assert store.sql("select count(*) as n from samples where label = 'audio' or text <> 'audio'")["n"].to_pylist() == [
        30
    ]
    assert store.sql("select text_embedding from samples").num_rows == 30
    with pytest.raises(ShardError, match="audio/"):
        store.sql("select key from samples where audio is null")


def test_sql_has_vector_and_list_functions(store):
    cosine = store.sql(
        "select array_cosine_similarity(audio, [1, 0, 0]::float[3]) as c from samples where key = 'rec01'"
    )
    assert cosine["c"].to_pylist() == [pytest.approx(3**-0.5)]
    nearest = store.sql("select key from samples order by array_distance(audio, [2, 2, 2.2]::float[3]) limit 2")
    assert nearest["key"].to_pylist() == ["rec04", "rec03"]
    lists = store.sql(
        "select len(frames) as n, list_max(frames_end_s) as end_s, list_transform(frames, lambda v: v[1]) as first, "
        "list_sum(text_embedding::float[]) as total from samples where key = 'rec07'"
    )
    assert lists.to_pylist() == [{"n": 2, "end_s": 2.0, "first": [7.0, 7.0], "total": 14.0}]


def test_sql_joins_samples_with_themselves_and_stops_early(store):
    joined = store.sql("select count(*) as n from samples a join samples b using (label)")
    assert joined["n"].to_pylist() == [450]
    assert store.sql("select audio from samples limit 2").num_rows == 2


def test_sql_shows_rejects_and_describes_samples(store):
    assert store.sql("from rejects").to_pylist()[0]["reason"] == "silent"
    types = {row["column_name"]: row["column_type"] for row in store.sql("describe samples").to_pylist()}
    assert types["audio"] == "FLOAT[3]"
    assert types["frames"] == "FLOAT[2][]"


def test_sql_gives_columns_distinct_names(store):
    assert store.sql("select 1 as a, 2 as a, 3 as a_2").to_pylist() == [{"a": 1, "a_2": 2, "a_2_2": 3}]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{folder}/manifest.json')",
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from '{folder}/rejects.parquet'",
        "select * from glob('/etc/*')",
        "copy samples to '{folder}/out.csv'",
        "copy (select 1) to '{folder}/out.parquet'",
        "attach '{folder}/out.db'",
        "export database '{folder}/out'",
        "install httpfs",
        "load httpfs",
        "pragma database_list",
        "set threads = 1",
        "set enable_external_access = true",
        "create table mine as select 1",
        "drop view samples",
        "insert into samples values (1)",
        "call pragma_version()",
        "select 1; drop view samples",
        "select * from store",
    ],
)
def test_sql_is_closed(store, folder, query):
    before = sorted(folder.iterdir())
    with pytest.raises(QueryError) as error:
        store.sql(query.format(folder=folder))
    assert "\n" not in str(error.value)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select\nnope from samples", "nope.*the query was: select nope from samples"),
        ("", "this is empty"),
        ("select 1; select 2", "SELECT and then SELECT"),
        ("select cast(key as int) from samples", "Could not convert"),
        ("select * from image", "Table with name image does not exist: there are samples, .* and rejects; the query"),
    ],
)
def test_sql_explains_what_is_wrong_in_one_line(store, query, message):
    with pytest.raises(QueryError, match=message) as error:
        store.sql(query)
    assert "\n" not in str(error.value)


def test_condition_that_fails_late_is_explained(tmp_path):
    numbers = [str(number) for number in range(3000)]
    samples = [{"key": f"{row:04}", "label": label} for row, label in enumerate([*numbers, "many"])]
    build_store(tmp_path, samples, {}, shard_rows=500)
    store = features.open(tmp_path)

    assert store.rows(where="try_cast(label as int) >= 2000").tolist() == list(range(2000, 3000))
    with pytest.raises(QueryError, match=r"Could not convert string 'many' to INT32.*the query was"):
        store.rows(where="cast(label as int) >= 2000")


def test_sql_names_a_broken_shard_only_when_its_view_is_asked(folder, tmp_path):
    views = {"image": {"vectors": [np.ones(2)] * 3}, "audio": {"vectors": [np.ones(2)] * 3}}
    build_store(tmp_path, [{"key": key} for key in "abc"], views)
    path = next((tmp_path / "audio").iterdir())
    path.write_bytes(b"ARROW1")
    store = features.open(tmp_path)
    assert store.sql("select count(image) as n from samples")["n"].to_pylist() == [3]
    with pytest.raises(ShardError, match=f"{path.name} is no whole Arrow file"):
        store.sql("select count(audio) from samples")


@pytest.mark.parametrize("content", [None, b"PAR1"])
def test_sql_opens_the_rejects_only_when_they_are_asked_for(folder, tmp_path, content):
    copied = shutil.copytree(folder, tmp_path / "copy")
    path = next(copied.glob("rejects-*"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    store = features.open(copied)

    assert store.sql("select count(*) as n from samples where text <> 'rejects'")["n"].to_pylist() == [30]
    assert store.table([], where="label = 'x' and key < 'rec03'")["key"].to_pylist() == ["rec00", "rec02"]
    assert "reason" in store.sql("describe rejects")["column_name"].to_pylist()
    for ask in (
        lambda: store.sql("select count(*) from Rejects"),
        lambda: store.sql("select key from samples where key not in (select key from rejects where reason = 'silent')"),
        lambda: store.table([], where="key in (select key from rejects)"),
    ):
        with pytest.raises(
            ShardError, match=rf"{path.name} is (in the manifest but not on disk|no whole Parquet file)"
        ):
            ask()


def test_sql_filters_rejects_and_joins_them_with_themselves(store):
    assert store.sql("select text, key from rejects where reason = 'silent' and stage <> 'embed'").to_pylist() == [
        {"text": "too quiet", "key": "r"}
    ]
    assert store.sql("from rejects where reason = 'empty'").num_rows == 0
    assert store.sql("select count(*) as n from rejects")["n"].to_pylist() == [1]
    assert store.sql("select count(*) as n from rejects a join rejects b using (key)")["n"].to_pylist() == [1]


def test_widen_keeps_float32_where_it_is():
    column = vector_column(np.ones((2, 3), np.float32), np.array([True, False]))
    wide = widen(column)
    assert wide.values.buffers()[1].address == column.values.buffers()[1].address
    assert wide.to_pylist() == [None, [1, 1, 1]]


def test_widen_takes_slices():
    column = vector_column(np.arange(6, dtype=np.float16).reshape(3, 2), np.array([True, False, False]))
    assert widen(column.slice(1, 1)).to_pylist() == [[2, 3]]
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), column, mask=pa.array([False, True, False]))
    assert widen(lists.slice(1)).to_pylist() == [None, [[2, 3], [4, 5]]]
