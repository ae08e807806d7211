"""Any byte of a store that changed is found by check, and borne by whatever reads it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_check import KEYS, build_sound

import features
from features.check import check
from features.errors import PlaitError, StoreError
from features.stats import stats


def _ask(folder: Path) -> None:
    """Everything that reads a file of the store, each on its own: what one cannot read may not stop the next."""
    store = features.open(folder)
    for ask in (
        lambda: store.get(KEYS, "text"),
        lambda: store.get_sequences(KEYS, "frames"),
        lambda: store.table(["text", "frames"]).to_pylist(),
        lambda: store.sql("select samples.*, stage from samples left join rejects using (key)"),
        lambda: stats(store),
    ):
        try:
            ask()
        except PlaitError:
            continue


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build_sound(folder, shard_rows=len(KEYS))
    return folder


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_check_reports_any_changed_byte_and_readers_bear_it(small, data):
    folder = small
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from(names))
    sound = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    flipped = bytes([sound[place] ^ data.draw(st.integers(1, 255))])
    damaged = sound[:place] + data.draw(st.sampled_from([b"", flipped + sound[place + 1 :]]))
    (folder / name).write_bytes(damaged)
    try:
        if name == "manifest.json":
            with pytest.raises(StoreError, match=r"manifest\.json"):
                features.open(folder)
        else:
            assert [(problem.where, problem.rule) for problem in check(features.open(folder))] == [(name, "digest")]
            _ask(folder)
    finally:
        (folder / name).write_bytes(sound)
