import multiprocessing
import os
import pickle
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from building import build_store

import features
from features.errors import ShardError, StoreError
from features.files import FolderFiles, publish_manifest, retired_folder
from features.manifest import MANIFEST_FILE


def _version(folder: Path, value: float) -> None:
    samples = [{"key": f"key{number:02d}"} for number in range(20)]
    build_store(folder, samples, {"image": {"vectors": [np.full(4, value)] * 20, "rev": str(value)}})


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _publish(store: Path, version: Path) -> None:
    """Bring the files of a version into the store, as a stage would, and publish it."""
    for name in _names(version) - {MANIFEST_FILE}:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes((version / name).read_bytes())
    new = store / ".new"
    new.write_bytes((version / MANIFEST_FILE).read_bytes())
    publish_manifest(store, new)


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / f"version{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        _version(folder, float(number))
    return folders


@pytest.fixture
def store(tmp_path: Path, versions: list[Path]) -> Path:
    (tmp_path / "store").mkdir()
    _publish(tmp_path / "store", versions[0])
    return tmp_path / "store"


def test_publish_leaves_nothing_but_the_version(store: Path, versions: list[Path]) -> None:
    _publish(store, versions[1])

    assert _names(store) == _names(versions[1])
    assert not retired_folder(store).exists()


def test_reader_keeps_its_version_through_two_publishings(store: Path, versions: list[Path]) -> None:
    first = features.open(store)
    _publish(store, versions[1])
    second = features.open(store)
    _publish(store, versions[2])

    for number, opened in enumerate([first, second, features.open(store)]):
        assert (opened.get(opened.keys, "image") == number).all()
        assert opened.rejects.num_rows == 0


def test_files_set_aside_go_when_nobody_reads_them(store: Path, versions: list[Path]) -> None:
    reader = FolderFiles(store)
    _publish(store, versions[1])
    assert any(retired_folder(store).iterdir())

    del reader
    _publish(store, versions[2])

    assert not retired_folder(store).exists()


def test_reader_keeps_its_version_after_it_was_published_again(store: Path, versions: list[Path]) -> None:
    reader = features.open(store)

    for version in (versions[0], versions[1]):
        _publish(store, version)

    assert (reader.get(reader.keys, "image") == 0).all()


def test_only_what_is_read_stays_aside(store: Path, versions: list[Path]) -> None:
    first = features.open(store)
    _publish(store, versions[1])
    second = features.open(store)
    del first
    _publish(store, versions[2])

    needed = _names(versions[1]) - {MANIFEST_FILE}
    aside = {name for name in _names(retired_folder(store)) if not name.startswith("manifest-")}
    assert aside == needed - _names(versions[2])
    assert (second.get(second.keys, "image") == 1).all()


def _link(store: Path, cache: Path, kind: str) -> None:
    """Put links to a cache in the place of the files, as DVC does where it is told to."""
    for name in _names(store):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(store / name, cache / name)
        if kind == "hardlink":
            os.link(cache / name, store / name)
        else:
            os.symlink(cache / name, store / name)


def _unlink(store: Path) -> None:
    """Put copies in the place of links, as DVC does before it runs a stage that keeps its output."""
    for name in _names(store):
        copy = store / "copy"
        copy.write_bytes((store / name).read_bytes())
        os.replace(copy, store / name)


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_reader_of_links_to_a_cache_keeps_its_version(
    kind: str, store: Path, versions: list[Path], tmp_path: Path
) -> None:
    _link(store, tmp_path / "cache", kind)
    reader, pickled = features.open(store), pickle.dumps(FolderFiles(store))

    _unlink(store)
    _publish(store, versions[1])

    assert (reader.get(reader.keys, "image") == 0).all()
    assert pickle.loads(pickled).manifest == reader.files.manifest
    del reader
    _publish(store, versions[2])
    assert not retired_folder(store).exists()


def _read_when_told(store: Path, pipe: Connection) -> None:
    opened = features.open(store)
    pipe.send("open")
    pipe.recv()
    pipe.send(float(opened.get(opened.keys, "image").max()))


def test_reader_in_another_process_keeps_its_version(store: Path, versions: list[Path]) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_read_when_told, args=(store, theirs))
    process.start()
    assert ours.recv() == "open"

    _publish(store, versions[1])
    ours.send("go on")

    assert ours.recv() == 0.0
    process.join()


def test_files_give_the_same_version_after_pickling(store: Path, versions: list[Path]) -> None:
    files = FolderFiles(store)
    pickled = pickle.dumps(files)
    _publish(store, versions[1])

    assert pickle.loads(pickled).manifest == files.manifest
    del files
    _publish(store, versions[2])
    with pytest.raises(StoreError, match="has a newer version than the one that was handed on"):
        pickle.loads(pickled)


def test_reader_may_go_to_another_folder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = features.open("store")
    pickled = pickle.dumps(opened)

    monkeypatch.chdir("/")

    for found in (opened, pickle.loads(pickled)):
        assert (found.get(found.keys, "image") == 0).all()


def test_publishing_the_same_version_again_changes_nothing(store: Path, versions: list[Path]) -> None:
    reader = features.open(store)
    before = {name: os.stat(store / name).st_size for name in _names(store)}

    _publish(store, versions[0])

    assert {name: os.stat(store / name).st_size for name in _names(store)} == before
    assert len(reader.samples) == 20


def test_a_missing_file_is_named(store: Path) -> None:
    opened = features.open(store)
    next((store / "image").iterdir()).unlink()

    with pytest.raises(ShardError, match=r"image/.*\.arrow is in the manifest but not on disk: run 'dvc checkout'"):
        opened.get(opened.keys, "image")


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no manifest\.json, so it is no feature store"):
        FolderFiles(tmp_path / "nowhere")
