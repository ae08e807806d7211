"""Publish: the working version's files to the DVC remote, its dvc.lock into git, and a tag on it."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import features
from features.errors import PublishError
from features.store import PROJECT_STORE
from features.versions import open_project
from flows.options import JsonOption
from flows.tables import print_json

_NAMED_PATHS = 3


@dataclass(frozen=True)
class Published:
    """What publishing did: files sent to the remote, what the commit holds (nothing if it was there), and the tag."""

    remote: str
    num_pushed: int
    commit: str
    committed: list[str]
    tag: str | None
    is_new_tag: bool


def add_publish(app: typer.Typer) -> None:
    """Add the command publish."""
    app.command("publish")(_publish)


def _publish(
    tag: Annotated[str | None, typer.Option("--tag", help="Name the version by an annotated git tag.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit and the tag.")] = None,
    remote: Annotated[str | None, typer.Option("--remote", "-r", help="DVC remote, instead of the default.")] = None,
    json: JsonOption = False,
) -> None:
    """Publish the current folder's working version: push its files to the DVC remote, commit dvc.lock, tag it."""
    done = publish(Path(), tag=tag, message=message, remote=remote)
    if json:
        print_json(asdict(done))
        return
    lines = [f"pushed {done.num_pushed or 'no'} new files to the DVC remote {done.remote!r}"]
    lines.append(
        f"committed {', '.join(done.committed)} as {done.commit[:12]}"
        if done.committed
        else f"already committed: {done.commit[:12]} has this version"
    )
    if done.tag:
        lines.append(f"{'tagged' if done.is_new_tag else 'already tagged'} {done.tag}")
    if done.committed or done.is_new_tag:
        lines.append("nothing was sent to a git remote: 'git push --follow-tags' does that")
    sys.stdout.write("\n".join(lines) + "\n")


def publish(folder: Path, *, tag: str | None, message: str | None, remote: str | None) -> Published:
    """Publish the working version of the project around a folder.

    First the files go to the DVC remote, then dvc.lock (with *.dvc files and outputs that git keeps) is committed, then
    the commit is tagged: whatever git names can be fetched, and a run that was killed is finished by another one.
    Raises PublishError, with nothing changed, unless the outputs are what the committed code and parameters make,
    the store is whole, and git and DVC have what they need to know; or if the remote does not take all files.
    """
    with open_project(folder.absolute()) as repo:
        project = Path(repo.root_dir)
        _check_git(project, tag)
        name = _remote_name(repo, remote)
        _check_committed(repo, project)
        _check_fresh(repo)
        samples = _check_store(project)
        records = _records(repo, project)
        tagged = _check_tag(project, tag, records)
        num_pushed = _push(repo, name)
        text = message or f"Publish {tag or 'features'}: {samples}"
        committed = _commit(project, records, text)
        is_new_tag = tag is not None and not tagged
        if is_new_tag:
            _git(project, "tag", "--annotate", "--message", text, str(tag))
        commit = _git(project, "rev-parse", f"{tag}^{{commit}}" if tag else "HEAD").strip()
        return Published(name, num_pushed, commit, committed, tag, is_new_tag)


def _git(project: Path, *arguments: str) -> str:
    """What git prints. Raises PublishError with the last line of its error."""
    ended = _run_git(project, *arguments)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"]
        raise PublishError(f"git {arguments[0]} failed in {project}: {lines[-1]}")
    return ended.stdout


def _run_git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError:
        raise PublishError("publishing needs the program git, which is not on the PATH: install it") from None


def _check_git(project: Path, tag: str | None) -> None:
    if _run_git(project, "rev-parse", "--git-dir").returncode:
        raise PublishError(f"{project} is no git repository: run 'git init' and commit the project first")
    if _run_git(project, "var", "GIT_COMMITTER_IDENT").returncode:
        raise PublishError(
            "git does not know who commits: run 'git config user.name NAME' and 'git config user.email ADDRESS'"
        )
    if tag is not None and (
        tag.startswith("-") or _run_git(project, "check-ref-format", f"refs/tags/{tag}").returncode
    ):
        raise PublishError(f"{tag!r} cannot be the name of a git tag: choose one as 'v1.2'")


def _remote_name(repo: Any, remote: str | None) -> str:
    """The DVC remote to publish to."""
    known = list(repo.config["remote"])
    name = remote or repo.config["core"].get("remote")
    if name is None:
        cure = f"choose one of {', '.join(known)} by --remote" if known else "run 'dvc remote add --default NAME URL'"
        raise PublishError(f"{repo.root_dir} has no default DVC remote to publish to: {cure}")
    if name not in known:
        raise PublishError(f"{repo.root_dir} has no DVC remote {name!r}; it has {', '.join(known) or 'none'}")
    return str(name)


def _check_committed(repo: Any, project: Path) -> None:
    """Raise PublishError if a file that an output depends on is not in git as it is here."""
    inputs = {Path(dep.fs_path) for stage in repo.index.stages for dep in stage.deps}
    inputs |= {Path(stage.path) for stage in repo.index.stages if Path(stage.path).suffix != ".dvc"}
    inputs.add(Path(repo.dvc_dir) / "config")
    top = Path(_git(project, "rev-parse", "--show-toplevel").rstrip("\n"))
    listed = _git(project, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all").split("\0")
    changed = [top / entry[3:] for entry in listed if entry]
    uncommitted = [str(path.relative_to(project)) for path in changed if inputs & {path, *path.parents}]
    if uncommitted:
        more = f" and {len(uncommitted) - _NAMED_PATHS} more" if len(uncommitted) > _NAMED_PATHS else ""
        raise PublishError(
            f"{', '.join(uncommitted[:_NAMED_PATHS])}{more} made these features, and git does not have what is in the "
            "folder: commit it first"
        )


def _check_fresh(repo: Any) -> None:
    """Raise PublishError if an output is not what dvc.yaml would make now, or DVC does not have it."""
    for stage, changes in repo.status().items():
        for change in changes:
            if change == "always changed":
                continue
            what = (
                change
                if isinstance(change, str)
                else ", ".join(f"{kind} {', '.join(of)}" for kind, of in change.items())
            )
            raise PublishError(f"stage {stage} is not up to date ({what}): run 'dvc repro'")


def _check_store(project: Path) -> str:
    """What the store holds, in words; all of its files are opened. Raises PlaitError if that is not possible."""
    store = features.open(project / PROJECT_STORE)
    store.rejects  # noqa: B018
    for index in range(len(store.reader.shards)):
        store.reader.samples(index)
        for view in store.views:
            store.reader.columns(view, index)
    return f"{len(store)} samples, views {', '.join(store.views)}"


def _records(repo: Any, project: Path) -> list[str]:
    """The files by which git knows the outputs: lock files, *.dvc, and outputs that DVC leaves to git."""
    records = set()
    for stage in repo.index.stages:
        path = Path(stage.path)
        records.add(path if path.suffix == ".dvc" else path.with_suffix(".lock"))
        records |= {Path(out.fs_path) for out in stage.outs if not out.use_cache}
    return sorted(str(path.relative_to(project)) for path in records if path.exists())


def _check_tag(project: Path, tag: str | None, records: list[str]) -> bool:
    """Whether the tag is there already, on this version. Raises PublishError if it is on another one."""
    if tag is None or _run_git(project, "rev-parse", "--quiet", "--verify", f"refs/tags/{tag}").returncode:
        return False
    if _run_git(project, "diff", "--quiet", f"refs/tags/{tag}", "--", *records).returncode:
        raise PublishError(f"tag {tag!r} exists and names another version: choose another name")
    return True


def _push(repo: Any, name: str) -> int:
    """Send what the remote lacks, and make sure that it has all. Returns the number of files sent."""
    from dvc.exceptions import DvcException

    try:
        num_pushed = int(repo.push(remote=name))
        # DVC's push takes no offence at files that are neither in the cache nor in the remote.
        is_versioned = repo.cloud.get_remote(name).fs.version_aware
        lacking = {} if is_versioned else repo.status(cloud=True, remote=name)
    except DvcException as error:
        raise PublishError(
            f"the DVC remote {name!r} did not take all files ({error}): mend that and run again"
        ) from error
    lacking = {path: state for path, state in lacking.items() if state != "deleted"}
    if lacking:
        raise PublishError(
            f"{next(iter(lacking))} and {len(lacking) - 1} other files are neither in DVC's cache nor in its remote "
            f"{name!r}: run 'dvc commit', or 'dvc repro', then publish again"
        )
    return num_pushed


def _commit(project: Path, records: list[str], message: str) -> list[str]:
    """Commit the records that differ from those in git; returns them."""
    listed = _git(project, "status", "--porcelain", "-z", "--no-renames", "--", *records).split("\0")
    if any(listed):
        _git(project, "add", "--", *records)
        _git(project, "commit", "--quiet", "--message", message, "--only", "--", *records)
    return [entry[3:] for entry in listed if entry]
