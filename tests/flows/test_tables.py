import json

import pytest

from flows.tables import print_json_rows, print_table, to_json


def test_print_table_aligns_a_row_a_line_when_piped(capsys):
    rows = [("a\nb", 1.5, [1, 2, 3, 4, 5]), ("[bold]", 12, None), ("none",)]
    print_table(["name", "n", "vector"], rows, title="Title")
    assert capsys.readouterr().out.splitlines() == [
        "Title",
        "name    n    vector",
        "a\\nb    1.5  [1, 2, 3, 4, and 1 more]",
        "[bold]   12  -",
        "none",
        "",
    ]


def test_print_table_of_nothing_prints_its_columns(capsys):
    print_table(["stage", "reason"], [])
    assert capsys.readouterr().out == "stage  reason\n"


def test_print_table_pages_and_folds_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["key", "n"], [("x" * 60, row) for row in range(250)])
    out = capsys.readouterr().out
    assert out.count("key") == 2
    assert out.count("x") == 250 * 60
    assert "249" in out


@pytest.mark.parametrize("is_terminal", [False, True])
def test_print_table_escapes_what_a_terminal_would_obey(capsys, monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", "dumb")  # rich writes no colours
    print_table(
        ["te\x1bxt"],
        [("\x1b[2Jgone\r\a",), (["\x9b31m", "\u202eabc"],), ("tab\t\x00\x7f",), ("ÿ\xa0é 🙂",)],
        title="T\b",
    )
    out = capsys.readouterr().out
    assert [line.strip() for line in out.splitlines() if line.strip(" ─")] == [
        "T\\x08",
        "te\\x1bxt",
        "\\x1b[2Jgone\\r\\x07",
        "[\\x9b31m, \\u202eabc]",
        "tab\\t\\x00\\x7f",
        "ÿ\xa0é 🙂",
    ]


def test_print_json_rows_is_one_document(capsys):
    print_json_rows(iter([{"a": 1}, {"a": 2}]))
    assert json.loads(capsys.readouterr().out) == [{"a": 1}, {"a": 2}]
    print_json_rows([])
    assert capsys.readouterr().out == "[]\n"


def test_to_json_writes_null_for_nan_and_hex_for_bytes():
    assert to_json({"a": [float("nan"), 1.5], "b": b"\x01"}) == '{"a": [null, 1.5], "b": "01"}'
