import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from building import build_store

import features
from features.stats import stats
from flows.cli import main
from flows.html_parts import Markup, table
from flows.stats_page import stats_page

_VOID = {"meta", "br", "path", "use"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that would be markup or a formula, more labels than are shown, every kind of view, and rejects."""
    folder = tmp_path_factory.mktemp("store")
    labels = ["<script>alert(1)</script>", "$x^2$", "語", "語", None, *(f"rare {number}" for number in range(24))]
    samples = [
        {"key": f"{row:03}", "label": label, "split": "train" if row % 3 else "test", "start_s": 0.0, "end_s": 40.0}
        for row, label in enumerate(labels)
    ]
    count = len(samples)
    sequences = [np.full((1 + row % 4, 2), row) for row in range(count)]
    views = {
        "image": {"vectors": [np.array([row % 5, 1.0, row]) for row in range(count)]},
        "unit": {"vectors": [np.array([1.0, 0.0])] * count, "input": "text"},
        "nothing": {"vectors": [None] * count, "dim": 2, "input": "audio"},
        "frames": {
            "vectors": sequences,
            "times": [np.zeros((len(found), 2)) for found in sequences],
            "input": "video",
        },
    }
    rejects = [{"key": "x", "stage": "clean", "reason": "silent", "dropped": "audio", "text": ""}]
    rejects.append({"key": "y", "stage": "align", "reason": "overlap", "dropped": "nothing", "text": ""})
    build_store(folder, samples, views, rejects=rejects)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return stats_page(stats(features.open(folder)), "a <b>store</b>")


class _Reader(HTMLParser):
    """Collects ids, addresses that would be fetched, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.images: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in _VOID or tag in ("path", "use"):
            self.open_tags.append(tag)
        self.ids += [str(named["id"])] if "id" in named else []
        self.fetched += [str(named[name]) for name in ("src", "href", "xlink:href") if name in named]
        if tag == "svg":
            self.images.append(named.get("aria-label"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID or tag in ("path", "use"):
            self.open_tags.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


def test_stats_page_is_well_formed_and_asks_nothing_of_the_network(page):
    reader = _Reader()
    reader.feed(page)
    assert reader.open_tags == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(address.startswith("#") for address in reader.fetched)
    assert {address[1:] for address in reader.fetched} <= set(reader.ids)
    assert "<script" not in page
    assert "@import" not in page


def test_stats_page_describes_every_plot(page):
    reader = _Reader()
    reader.feed(page)
    assert len(reader.images) == 7  # norm and dimensions of three views, and lengths of one
    assert "Histogram of the norm: min 1, mean 1, max 1" in reader.images
    assert "Standard deviation of 2 dimensions, from 0 to 0; 2 never vary" in reader.images


def test_stats_page_escapes_what_users_wrote(page):
    assert "<h1>Features: a &lt;b&gt;store&lt;/b&gt;</h1>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "$x^2$" in page
    assert "語" in page


def test_stats_page_tells_warnings_from_what_was_lost(page):
    assert "<dt>rejects</dt><dd>1</dd></div><div><dt>warnings</dt><dd>1</dd>" in page
    lost, _, odd = page.partition("What was lost or shortened since ingest.")[2].partition("<caption>Warnings")
    assert ("silent" in lost, "overlap" in lost, "overlap" in odd) == (True, False, True)


def test_stats_page_adds_up_the_labels_that_it_does_not_show(page):
    assert "<em>7 others</em>" in page
    assert "<em>no label</em>" in page


def test_stats_page_says_what_is_not_there(tmp_path):
    build_store(tmp_path, [], {})
    page = stats_page(stats(features.open(tmp_path)), "empty")
    assert "Nothing was lost since ingest." in page


def test_stats_page_has_equal_bytes_for_equal_stores(folder, page):
    """Also in another process, whose hashes and random ids are others."""
    code = f"""
import sys, features
from features.stats import stats
from flows.stats_page import stats_page
sys.stdout.buffer.write(stats_page(stats(features.open({str(folder)!r})), "a <b>store</b>").encode())
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True).stdout
        == page.encode()
    )


def test_table_sets_numbers_right_and_escapes_text():
    shown = table(["name", "n"], [["a&b", 1234], [Markup("<em>x</em>"), None]])
    assert '<th scope=col>name</th><th class="number" scope=col>n</th>' in shown
    assert '<td>a&amp;b</td><td class="number">1,234</td>' in shown
    assert '<td><em>x</em></td><td class="number">-</td>' in shown


@pytest.fixture
def plait_stats(folder, monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder, and returns its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "stats", "--store", str(folder), *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_stats_command_prints_a_table_a_subject(plait_stats):
    status, out, _ = plait_stats()
    assert status == 0
    titles = ("Samples", "Modalities", "Labels", "Views", "Repeats", "Rejects")
    assert [line for line in out.splitlines() if line in titles] == list(titles)
    assert next(line for line in out.splitlines() if line.startswith("dead_dimensions")).split()[1:] == [
        "0",
        "1",
        "-",
        "2",
    ]


def test_stats_command_prints_all_of_it_as_json(plait_stats, folder):
    assert json.loads(plait_stats("--json")[1]) == stats(features.open(folder))


@pytest.mark.parametrize(
    ("arguments", "written"), [((), "data/reports/features.html"), (("x/page.html",), "x/page.html")]
)
def test_stats_command_writes_the_page(plait_stats, folder, arguments, written):
    assert plait_stats("--html", *arguments) == (0, "", f"stats: wrote {written}\n")
    assert Path(written).read_text(encoding="utf-8") == stats_page(stats(features.open(folder)), str(folder))


def test_stats_command_refuses_a_path_without_a_page(plait_stats):
    status, out, err = plait_stats("page.html")
    assert (status, out) == (1, "")
    assert (
        err == "plait: error: page.html is where a page goes, and no page was asked for: add --html, or leave it out\n"
    )
