import pickle
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dvc_project import KEYS, dvc, git, init_project, isolate, objects, write_store

import features
from features.errors import ShardError, StoreError
from features.files import StoreFiles
from features.versions import RevisionFiles, commit_of, file_beside, open_revision

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own use of pygtrie


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Versions v1 (images 1.0), v2 (images 2.0, 3 texts edited), both pushed; before v1, a commit without a store."""
    root = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, root)
        project = root / "project"
        init_project(project, has_remote=True)
        git(project, "add", ".")
        git(project, "commit", "--quiet", "-m", "Nothing yet")
        for value, edited in ((1.0, 0), (2.0, 3)):
            shutil.rmtree(project / "data", ignore_errors=True)
            write_store(project / "data" / "features", value, edited=edited)
            (project / "data" / "ingest").mkdir()
            (project / "data" / "ingest" / "note").write_text(str(value))
            (project / "data" / "one").write_text(str(value))
            with dvc(project) as repo:
                repo.add([str(project / "data" / name) for name in ("features", "ingest", "one")])
                repo.push()
            git(project, "add", ".")
            git(project, "commit", "--quiet", "-m", f"Version {value}")
            git(project, "tag", "--annotate", "-m", "A version", f"v{value:.0f}")
        yield project


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with a full cache and a remote, to be changed."""
    isolate(monkeypatch, tmp_path)
    shutil.copytree(project.parent / "remote", tmp_path / "remote")
    return Path(shutil.copytree(project, tmp_path / "project"))


def _cache(project: Path) -> Path:
    return project / ".dvc" / "cache"


def _image(store: features.Store) -> float:
    return float(store.get(KEYS[:1], "image")[0, 0])


@pytest.mark.parametrize(
    ("rev", "value"), [("v1", 1.0), ("v2", 2.0), ("v2~1", 1.0), ("HEAD", 2.0), ("main", 2.0), ("v1^{commit}", 1.0)]
)
def test_open_reads_what_git_calls_a_revision(project: Path, rev: str, value: float) -> None:
    assert _image(features.open(project, rev=rev)) == value


def test_open_reads_a_commit_by_its_first_characters(project: Path) -> None:
    assert _image(features.open(project, rev=git(project, "rev-parse", "v1")[:9])) == 1.0


def test_past_version_is_read_in_place_from_the_cache(copy: Path) -> None:
    shutil.rmtree(copy / "data")
    before = objects(_cache(copy))
    store = features.open(copy / "data" / "features", rev="v1")

    assert (store.get(KEYS, "image") == 1.0).all()
    assert len(store.rejects) == 0
    name = f"image/{store.views['image'].files[store.manifest.shards[0].name]}"
    assert next(store.files.places(name)).is_relative_to(_cache(copy))
    assert objects(_cache(copy)) == before
    assert not (copy / "data").exists()


def test_past_version_fetches_only_what_it_reads(copy: Path) -> None:
    shutil.rmtree(_cache(copy))
    store = features.open(copy, rev="v1")
    assert len(objects(_cache(copy))) == 2  # the list of the files, and the manifest

    store.get(KEYS[:1], "image")
    fetched = objects(_cache(copy))
    assert len(fetched) <= 4  # a shard of the samples, to find the key, and one of the view
    store.get(KEYS[:1], "image")
    assert objects(_cache(copy)) == fetched

    store.table(["image", "text"])
    num_shards = len(store.manifest.shards)
    assert num_shards > 1
    assert len(objects(_cache(copy))) == 2 + 3 * num_shards


def test_past_version_is_the_same_after_pickling_wherever_it_is_read(copy: Path) -> None:
    shutil.rmtree(_cache(copy))
    files: StoreFiles = open_revision(copy, "v1")
    pickled = pickle.dumps(files)
    assert pickle.loads(pickled) == files

    def read(_: int) -> float:
        return float(features.Store(pickle.loads(pickled)).table(["image"])["image"].to_pylist()[-1][0])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {1.0}


def test_past_version_tries_every_remote(copy: Path) -> None:
    shutil.rmtree(_cache(copy))
    with dvc(copy) as repo, repo.config.edit() as config:
        config["remote"]["other"] = {"url": str(copy.parent / "empty")}
        config["core"]["remote"] = "other"

    assert _image(features.open(copy, rev="v1")) == 1.0


@pytest.mark.parametrize("has_remote", [True, False])
def test_object_that_nobody_has_is_an_error_that_says_where_it_was_sought(copy: Path, has_remote: bool) -> None:
    store = features.open(copy, rev="v1")
    shutil.rmtree(_cache(copy))
    with dvc(copy) as repo, repo.config.edit() as config:
        config["remote"]["store"]["url"] = str(copy.parent / "empty")
        if not has_remote:
            config["remote"], config["core"] = {}, {}
    sought = "nor in remote 'store'" if has_remote else "the project has no DVC remote"

    with pytest.raises(ShardError, match=rf"features@v1/samples/.* is not in DVC's cache .*{sought}: run 'dvc push"):
        store.table(["image"])
    with pytest.raises(ShardError, match=r"the list of the files of .*features@v1"):
        features.open(copy, rev="v1")


def test_damaged_object_of_a_remote_does_not_reach_the_cache(copy: Path) -> None:
    shutil.rmtree(_cache(copy))
    files = open_revision(copy, "v1")
    name = next(name for name in files.oids if name.startswith("image/"))
    remote = copy.parent / "remote" / "files" / "md5" / files.oids[name][:2] / files.oids[name][2:]
    remote.chmod(0o644)
    whole = remote.read_bytes()
    remote.write_bytes(whole[:-1])

    with pytest.raises(ShardError, match=f"nor in remote 'store', whose copy is damaged: replace {remote} by the file"):
        list(files.places(name))
    assert not any(_cache(copy).rglob(f"*{files.oids[name][2:]}*"))
    remote.write_bytes(whole)
    assert list(files.places(name))[-1].read_bytes() == whole


def test_push_does_not_mend_a_damaged_object_of_a_remote(copy: Path) -> None:
    """Which is why the message names another cure."""
    oid = open_revision(copy, "v1").oids["manifest.json"]
    remote = copy.parent / "remote" / "files" / "md5" / oid[:2] / oid[2:]
    remote.chmod(0o644)
    remote.write_bytes(b"{}")
    with dvc(copy) as repo:
        repo.push(all_commits=True)
    assert remote.read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("rev", "message"),
    [
        ("v22", r"git knows no revision 'v22' in .*did you mean 'v2'\?; the last tags are v1, v2"),
        ("", "git knows no revision ''"),
        ("HEAD:.dvcignore", "git knows no revision"),
        ("HEAD^{tree}", "git knows no revision"),
        ("v1~1", "revision 'v1~1' of .* has no output data/features"),
    ],
)
def test_open_says_which_revision_it_cannot_read(project: Path, rev: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        features.open(project, rev=rev)


def test_open_says_where_there_are_no_versions(project: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "plain", 1.0)
    with pytest.raises(StoreError, match="plain is in no DVC project, so it has no versions"):
        features.open(tmp_path / "plain", rev="v1")
    with pytest.raises(StoreError, match="has no output plain"):
        features.open(project / "plain", rev="v1")
    with pytest.raises(StoreError, match="image@v1 holds no manifest"):
        features.open(project / "data" / "features" / "image", rev="v1")
    with pytest.raises(StoreError, match="one@v1 is a file, so it is no feature store"):
        features.open(project / "data" / "one", rev="v1")


def test_open_says_where_git_is_missing(copy: Path) -> None:
    shutil.rmtree(copy / ".git")
    with pytest.raises(StoreError, match="git"):
        features.open(copy, rev="v1")


def test_open_says_that_dvc_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    with pytest.raises(StoreError, match="versions need DVC, which cannot be imported"):
        features.open(project, rev="v1")


def test_open_says_that_another_format_needs_another_plait(copy: Path) -> None:
    manifest = copy / "data" / "features" / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    manifest.write_text(text.replace('"format_version": ', '"format_version": 9'))
    with dvc(copy) as repo:
        repo.add(str(copy / "data" / "features"))
    git(copy, "commit", "--quiet", "-am", "Another format")

    with pytest.raises(StoreError, match=r"features@HEAD has format 9\d; this Plait reads format"):
        features.open(copy, rev="HEAD")


def test_project_below_the_root_of_git_has_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the store is not an output itself, but in one."""
    isolate(monkeypatch, tmp_path)
    project = tmp_path / "repository" / "team" / "project"
    (tmp_path / "repository").mkdir()
    init_project(project, git_root=tmp_path / "repository")
    write_store(project / "data" / "features", 7.0)
    with dvc(project) as repo:
        repo.add(str(project / "data"))
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "All data")
    shutil.rmtree(project / "data")
    monkeypatch.chdir(project)

    assert _image(features.open(".", rev="HEAD")) == 7.0
    assert _image(features.open("data/features", rev="main")) == 7.0


def test_commit_of_tells_commit_and_tags(copy: Path) -> None:
    commit = git(copy, "rev-parse", "HEAD")
    working, past = features.open(copy), features.open(copy, rev="v1")

    assert commit_of(working.files) == {"commit": commit, "tags": ["v2"]}
    assert commit_of(past.files) == {"commit": git(copy, "rev-parse", "v1^{commit}"), "tags": ["v1"]}
    shutil.rmtree(copy / "data" / "features")
    write_store(copy / "data" / "features", 3.0)
    assert commit_of(features.open(copy).files) is None


def test_file_beside_is_of_the_same_version(copy: Path) -> None:
    for rev, text in ((None, "2.0"), ("v1", "1.0")):
        path = file_beside(features.open(copy, rev=rev).files, "ingest", "note")
        assert path is not None
        assert path.read_text() == text
    assert file_beside(features.open(copy).files, "ingest", "other") is None
    assert file_beside(features.open(copy, rev="v1").files, "ingest", "other") is None
    assert file_beside(features.open(copy, rev="v1").files, "packed", "note") is None


def test_diff_takes_a_revision(copy: Path) -> None:
    """A version that is the working one but for some files fetches no file that both have."""
    shutil.rmtree(_cache(copy))
    found = features.open(copy).diff("v1")
    views = found["views"]

    assert found["samples"]["changed"]["keys"] == KEYS[:3]
    assert found["samples"]["fields"] == {"text": 3}
    assert views["image"]["changed"]["num"] == len(KEYS)
    assert views["image"]["rev"] == ["image 1.0", "image 2.0"]
    assert views["text"]["changed"]["keys"] == KEYS[:3]
    assert views["text"]["rev"][0] == views["text"]["rev"][1]
    past = features.open(copy, rev="v1")
    same = set(past.views["text"].files.values()) & set(features.open(copy).views["text"].files.values())
    assert same
    assert isinstance(past.files, RevisionFiles)
    assert not {past.files.oids[f"text/{file}"] for file in same} & objects(_cache(copy))


def test_diff_of_a_past_version_finds_its_project(project: Path) -> None:
    found = features.open(project, rev="v2").diff("v1")

    assert found["views"]["text"]["changed"]["keys"] == KEYS[:3]
