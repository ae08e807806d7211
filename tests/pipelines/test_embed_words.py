"""Words that move, and what is encoded again on their account."""

from pathlib import Path

import pytest
from counting import counting_view, embed_rows, take_log, text_row

import features
from pipelines.digests import sample_digests
from pipelines.media.spans import span


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_embed_after_words_moved_makes_the_sequences_again_and_nothing_else(tmp_path: Path, log: Path) -> None:
    words = [span(1.0, 1.25, text="two"), span(1.25, 2.0, text="words")]
    timed = {**text_row("rec/0", "two words"), "start_s": 1.0, "end_s": 2.0, "words": words}
    moved = {**timed, "words": [words[0], span(1.5, 2.0, text="words")]}
    later = {
        **timed,
        "start_s": 11.0,
        "end_s": 12.0,
        "words": [span(11.0, 11.25, text="two"), span(11.25, 12.0, text="words")],
    }
    others = [text_row("rec/1", "two words"), text_row("rec/2", "another")]
    pooled, sequence = counting_view(log, "pooled"), counting_view(log, "sequence", pooling="sequence")
    read = []
    for row in (timed, later, moved):
        rows = [{**row, "digests": sample_digests(row)}, *others]
        store = features.open(embed_rows(tmp_path, rows, [pooled, sequence]))
        table = store.table(["sequence"])
        read.append((take_log(log), [table[f"sequence_{name}"].to_pylist()[:2] for name in ("start_s", "end_s")]))

    known = [[[0.0, 0.25], [0.0, 0.5]], [[0.25, 1.0], [0.5, 1.0]]]
    # Of equal texts the pooled view encodes one.
    assert read[0] == (["another"] * 2 + ["two words"] * 3, known)
    assert read[1] == ([], known)
    assert read[2] == (["two words"], [[[0.0, 0.5], [0.0, 0.5]], [[0.25, 1.0], [0.5, 1.0]]])
