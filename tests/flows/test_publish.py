import json
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc_project import dvc, git, init_project, isolate, objects, write_store

import features
from flows.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own use of pygtrie

GRAPH = """
stages:
  embed:
    cmd: rm -rf data/features && mkdir -p data && cp -r source data/features && echo 1 > score.txt
    params: [embed]
    deps: [source, code]
    outs:
      - data/features
      - score.txt: {cache: false}
"""
Publish = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose graph has run, with all but dvc.lock and the score committed."""
    root = tmp_path_factory.mktemp("publish")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, root)
        project = root / "project"
        init_project(project, has_remote=True)
        write_store(project / "source", 1.0)
        (project / "code").mkdir()
        (project / "code" / "embed.py").write_text("pass\n")
        (project / "params.yaml").write_text("embed: 1\n")
        (project / "README.md").write_text("A project\n")
        (project / "dvc.yaml").write_text(GRAPH)
        (project / ".gitignore").write_text("/data/\n")
        git(project, "add", ".")
        git(project, "commit", "--quiet", "-m", "Start")
        patch.chdir(project)
        _repro(project)
        yield project


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate(monkeypatch, tmp_path)
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def publish(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Publish:
    """Runs the command in this process and gives its exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "publish", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        status = stopped.value.code
        return (status if isinstance(status, int) else 0, *capsys.readouterr())

    return run


def _repro(project: Path, value: float | None = None) -> None:
    if value is not None:
        shutil.rmtree(project / "source")
        write_store(project / "source", value)
        git(project, "add", "source")
        git(project, "commit", "--quiet", "-m", "Other recordings")
    with dvc(project) as repo:
        repo.reproduce()


def _remote(project: Path) -> set[str]:
    return objects(project.parent / "remote")


def test_publish_pushes_commits_and_tags(project: Path, publish: Publish) -> None:
    status, out, err = publish("--tag", "v1")

    assert (status, err) == (0, "")
    assert "pushed " in out
    assert "committed dvc.lock, score.txt as " in out
    assert "tagged v1" in out
    assert "'git push --follow-tags'" in out
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "cat-file", "-t", "v1") == "tag"
    assert git(project, "log", "-1", "--format=%s") == "Publish v1: 20 samples, views image, text"
    assert _remote(project) == objects(project / ".dvc" / "cache")
    shutil.rmtree(project / ".dvc" / "cache")
    assert len(features.open(project, rev="v1").table(["image"])) == 20


def test_publish_again_says_that_it_is_published(project: Path, publish: Publish) -> None:
    first = json.loads(publish("--tag", "v1", "--json")[1])
    again = json.loads(publish("--tag", "v1", "--json")[1])

    assert first["is_new_tag"] is True
    assert again == {**first, "num_pushed": 0, "committed": [], "is_new_tag": False}
    out = publish("--tag", "v1")[1]
    assert "pushed no new files" in out
    assert "already committed" in out
    assert "already tagged v1" in out
    assert "git push" not in out
    assert git(project, "rev-list", "--count", "HEAD") == "2"


def test_publish_leaves_what_is_not_of_the_version(project: Path, publish: Publish) -> None:
    (project / "README.md").write_text("Edited\n")
    (project / "notes.txt").write_text("staged\n")
    git(project, "add", "notes.txt")
    assert publish("--message", "Mine")[0] == 0

    assert git(project, "log", "-1", "--format=%s") == "Mine"
    assert git(project, "show", "--name-only", "--format=", "HEAD").splitlines() == ["dvc.lock", "score.txt"]
    assert git(project, "status", "--porcelain").splitlines() == ["M README.md", "A  notes.txt"]
    assert git(project, "tag") == ""


@pytest.mark.parametrize(
    ("name", "text"), [("code/embed.py", "print()\n"), ("code/new.py", ""), (".dvc/config", "# more\n")]
)
def test_publish_refuses_what_git_does_not_have(project: Path, publish: Publish, name: str, text: str) -> None:
    with open(project / name, "a") as file:
        file.write(text)
    status, _, err = publish()

    assert status == 1
    assert err.startswith(f"plait: error: {name} made these features or tells where they are")
    assert _remote(project) == set()


def test_publish_refuses_outputs_that_are_not_up_to_date(project: Path, publish: Publish) -> None:
    (project / "params.yaml").write_text("embed: 2\n")
    git(project, "commit", "--quiet", "-am", "Another parameter")
    status, _, err = publish()

    assert status == 1
    assert "stage embed is not up to date (changed deps: params.yaml embed modified): run 'dvc repro'" in err


def test_publish_passes_over_a_graph_that_is_not_needed(project: Path, publish: Publish) -> None:
    """As the demo's, where the source is one's own; one whose output the project's graph needs counts."""
    (project / "demo").mkdir()
    (project / "demo" / "dvc.yaml").write_text("stages: {demo: {cmd: mkdir -p made, outs: [made]}}\n")
    (project / ".gitignore").write_text("/data/\n/demo/made\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Beside the graph")
    assert publish("--tag", "v1")[0] == 0

    graph = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(graph.replace("deps: [source,", "deps: [demo/made, source,"))
    git(project, "commit", "--quiet", "-am", "Needs it")
    assert "stage demo/dvc.yaml:demo is not up to date" in publish()[2]


def test_publish_refuses_an_edited_store(project: Path, publish: Publish) -> None:
    shard = next((project / "data" / "features" / "image").iterdir())
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-100])

    assert "stage embed is not up to date (changed outs: data/features modified)" in publish()[2]


def test_publish_refuses_a_store_that_is_not_whole(project: Path, publish: Publish) -> None:
    """A damage that DVC takes for what the stage made."""
    shard = next((project / "source" / "image").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    git(project, "commit", "--quiet", "-am", "Broken")
    _repro(project)
    status, _, err = publish()

    assert status == 1
    assert shard.name in err


def test_publish_refuses_a_store_with_a_flipped_bit(project: Path, publish: Publish) -> None:
    """The shard still opens, and DVC has its digest as it is now."""
    shard = next((project / "source" / "image").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    git(project, "commit", "--quiet", "-am", "Flipped")
    _repro(project)
    status, out, err = publish("--tag", "v1")

    assert (status, out) == (1, "")
    assert f"is not whole: image/{shard.name}: digest: " in err
    assert git(project, "tag") == ""


def test_publish_refuses_a_tag_of_another_version(project: Path, publish: Publish) -> None:
    assert publish("--tag", "v1")[0] == 0
    _repro(project, 2.0)

    assert "tag 'v1' exists and names another version" in publish("--tag", "v1")[2]
    assert publish("--tag", "v2")[0] == 0
    found = features.open(project, rev="v2").diff("v1")
    assert found["views"]["image"]["changed"]["num"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tag", "a b"], "'a b' cannot be the name of a git tag"),
        (["--tag", "-x"], "'-x' cannot be the name of a git tag"),
        (["--remote", "other"], "has no DVC remote 'other'; it has store"),
    ],
)
def test_publish_refuses_names_that_mean_nothing(publish: Publish, arguments: list[str], message: str) -> None:
    assert message in publish(*arguments)[2]


def test_publish_says_what_git_and_dvc_lack(project: Path, publish: Publish) -> None:
    git(project, "config", "--unset", "user.email")
    git(project, "config", "user.useConfigOnly", "true")
    assert "git does not know who commits" in publish()[2]
    git(project, "config", "user.email", "tester@example.com")
    with dvc(project) as repo, repo.config.edit() as config:
        config["core"] = {}
    assert "has no default DVC remote to publish to: choose one of store by --remote" in publish()[2]
    with dvc(project) as repo, repo.config.edit() as config:
        config["remote"] = {}
    assert "run 'dvc remote add --default NAME URL'" in publish()[2]
    (project / ".gitignore").write_text("dvc.lock\n/data/\n")
    assert "git ignores dvc.lock" in publish()[2]
    shutil.rmtree(project / ".dvc")
    assert "is in no DVC project" in publish()[2]


def test_publish_goes_on_where_it_was_stopped_before_the_commit(project: Path, publish: Publish) -> None:
    """What git will name is in the remote already."""
    hook = project / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    head = git(project, "rev-parse", "HEAD")

    assert "git commit failed" in publish("--tag", "v1")[2]
    assert _remote(project) == objects(project / ".dvc" / "cache")
    assert (git(project, "rev-parse", "HEAD"), git(project, "tag")) == (head, "")
    hook.unlink()
    found = json.loads(publish("--tag", "v1", "--json")[1])
    assert (found["num_pushed"], found["committed"]) == (0, ["dvc.lock", "score.txt"])
    assert git(project, "rev-parse", "v1^{commit}") == found["commit"] != head


def test_publish_goes_on_where_it_was_stopped_before_the_tag(project: Path, publish: Publish) -> None:
    assert publish()[0] == 0
    head = git(project, "rev-parse", "HEAD")
    found = json.loads(publish("--tag", "v1", "--json")[1])

    assert (found["committed"], found["is_new_tag"], found["commit"]) == ([], True, head)
    assert git(project, "rev-parse", "v1^{commit}") == head


def test_publish_commits_nothing_that_the_remote_does_not_take(project: Path, publish: Publish) -> None:
    (project.parent / "remote").write_text("a file where the folder should be\n")
    status, _, err = publish("--tag", "v1")

    assert status == 1
    assert err.startswith("plait: error: the DVC remote 'store' did not take all files")
    assert git(project, "tag") == ""
    assert git(project, "rev-list", "--count", "HEAD") == "1"


def test_publish_misses_a_file_that_is_in_no_cache(project: Path, publish: Publish) -> None:
    """DVC's own push passes it over with a warning."""
    cache = project / ".dvc" / "cache" / "files" / "md5"
    lost = next(path for path in cache.glob("??/*") if path.suffix != ".dir")
    lost.unlink()
    status, _, err = publish()

    assert status == 1
    assert "changed outs: data/features not in cache" in err
    assert git(project, "rev-list", "--count", "HEAD") == "1"
