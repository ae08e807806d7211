import json
import subprocess
import sys

import numpy as np
import pytest
from building import build_store

from flows.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    keys = [f"a-recording-with-quite-a-long-name-{row:02}/segment-{row:04}" for row in range(20)]
    times = [None if row % 2 else np.array([[0.0, 1.5]]) for row in range(20)]
    sequences = [None if row % 2 else np.full((1, 2), row) for row in range(20)]
    views = {
        "image": {"vectors": [None if row == 1 else np.full(6, row / 4) for row in range(20)]},
        "words": {"vectors": sequences, "times": times},
    }
    samples = [{"key": key, "label": "[red]" if row % 2 else "blue"} for row, key in enumerate(keys)]
    build_store(folder, samples, views)
    return folder


@pytest.fixture
def plait(folder, monkeypatch, capsys):
    """Runs the command in this process and returns its exit status, output and errors."""

    def run(*arguments: str, store=folder) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", *arguments, "--store", str(store)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_views_lists_shape_and_rev(plait):
    status, out, _ = plait("views")
    assert status == 0
    assert "19 of 20" in out
    found = {view["name"]: view for view in json.loads(plait("views", "--json")[1])}
    assert found["image"]["shape"] == [6]
    assert found["words"]["shape"] == [None, 2]
    assert found["image"]["rev"].startswith(next(line for line in out.splitlines() if "image" in line).split()[-1])


def test_sql_prints_whole_cells_when_piped(plait):
    _, out, _ = plait("sql", "select key, label, source, image from samples limit 2")
    assert "a-recording-with-quite-a-long-name-01/segment-0001.mp4" in out
    assert "[red]" in out
    assert "[0, 0, 0, 0, and 2 more]" in out
    assert "…" not in out


def test_sql_escapes_control_characters_but_in_json(plait):
    query = "select chr(27) || '[2J' as text"
    assert plait("sql", query)[1] == "text\n\\x1b[2J\n"
    assert json.loads(plait("sql", query, "--json")[1]) == [{"text": "\x1b[2J"}]


def test_sql_json_is_a_list_with_one_object_a_line(plait):
    status, out, _ = plait("sql", "select label, count(*) as n from samples group by 1 order by 1", "--json")
    assert status == 0
    assert out.splitlines() == ["[", '{"label": "[red]", "n": 10},', '{"label": "blue", "n": 10}', "]"]
    assert json.loads(plait("sql", "select 1 where false", "--json")[1]) == []


def test_get_gives_vectors_in_order_and_null_for_absent(plait):
    keys = [f"a-recording-with-quite-a-long-name-{row:02}/segment-{row:04}" for row in (4, 1)]
    assert json.loads(plait("get", "image", *keys, "--json")[1]) == [
        {"key": keys[0], "embedding": [1.0] * 6},
        {"key": keys[1], "embedding": None},
    ]
    assert json.loads(plait("get", "words", *keys, "--json")[1]) == [
        {"key": keys[0], "embedding": [[4, 4]], "start_s": [0], "end_s": [1.5]},
        {"key": keys[1], "embedding": None, "start_s": None, "end_s": None},
    ]
    assert keys[1] in plait("get", "image", *keys)[1]


def test_stats_prints_tables_and_json(plait):
    out = plait("stats")[1]
    assert all(title in out for title in ("Samples", "Labels", "Views", "Rejects"))
    assert json.loads(plait("stats", "--json")[1])["views"]["image"]["present"] == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sql", "selec"), "plait: error: Parser Error"),
        (("sql", "copy samples to 'x.csv'"), "plait: error: a query is one SELECT"),
        (("sql", "selec '\x1b[31m'"), "the query was: selec '\\x1b[31m'"),
        (("get", "imag", "k"), "did you mean 'image'?"),
        (("get", "image", "k"), "lacks 1 of the keys: 'k'"),
    ],
)
def test_main_prints_an_error_as_one_line(plait, arguments, message):
    status, out, err = plait(*arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_main_says_where_there_is_no_store(plait, tmp_path):
    status, _, err = plait("views", store=tmp_path)
    assert status == 1
    assert err.startswith(f"plait: error: {tmp_path} holds no manifest.json")


def test_main_prints_an_operating_system_error_as_one_line(plait):
    status, _, err = plait("views", store="x" * 300)
    assert status == 1
    assert err.startswith("plait: error: File name too long: xxx")
    assert err.count("\n") == 1


def test_cli_imports_nothing_heavy():
    code = "import sys, flows.cli; print(sorted({'torch', 'apache_beam', 'prefect', 'dvc'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_main_ends_quietly_when_its_reader_has_gone(folder, json_flag):
    query = "select * from samples, range(2000)"
    code = "from flows.cli import main; main()"
    command = [sys.executable, "-c", code, "sql", query, "--store", str(folder), *json_flag]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_main_says_when_the_disk_is_full(folder):
    command = [sys.executable, "-c", "from flows.cli import main; main()", "views", "--store", str(folder)]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == "plait: error: No space left on device: standard output\n"
