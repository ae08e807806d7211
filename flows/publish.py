"""Publish: the working version's files to the DVC remote, its dvc.lock into git, and a tag on it."""

import os
import subprocess
import sys
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import features
from features.check import check
from features.errors import PublishError
from features.store import PROJECT_STORE
from features.versions import open_project
from flows.options import JsonOption
from flows.tables import print_json

_NAMED_PATHS = 3
REVS_STAGE = "revs"


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
        records = _records(repo, project)
        _check_committed(repo, project, records)
        _check_fresh(repo)
        _check_revs(repo, project)
        samples = _check_store(project)
        tagged = _check_tag(project, tag, records)
        num_pushed = _push(repo, name)
        text = message or f"Publish {tag or 'features'}: {samples}"
        committed = _commit(project, records, text)
        is_new_tag = tag is not None and not tagged
        if is_new_tag:
            _git(project, "tag", "--annotate", "--message", text, str(tag))
        commit = _git(project, "rev-parse", f"{tag}^{{commit}}" if tagged and not committed else "HEAD").strip()
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
    if _run_git(project, "check-ignore", "--quiet", "--", "dvc.lock").returncode == 0:
        raise PublishError(f"git ignores dvc.lock of {project}, which tells what a version is: mend .gitignore")
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


def _check_committed(repo: Any, project: Path, records: list[str]) -> None:
    """Raise PublishError if a file that an output depends on, and that is none, is not in git as it is here."""
    inputs = {dep.fs_path for stage in repo.index.stages for dep in stage.deps}
    inputs |= {stage.path for stage in repo.index.stages if not stage.path.endswith(".dvc")}
    inputs |= {repo.fs.join(repo.dvc_dir, "config")}
    relative = {Path(os.path.relpath(path, repo.root_dir)) for path in inputs}
    changed = [Path(name) for name in _changed(project) if name not in records]
    changed = [path for path in changed if relative & {path, *path.parents}]
    if changed:
        listed = ", ".join(map(str, changed[:_NAMED_PATHS]))
        more = f" and {len(changed) - _NAMED_PATHS} more" if len(changed) > _NAMED_PATHS else ""
        raise PublishError(
            f"{listed}{more} made these features or tells where they are, and is not in git as it is here: commit it"
        )


def _changed(project: Path, *names: str) -> list[str]:
    """The files, all or those below some names, that are not in git as they are here, relative to the project."""
    prefix = _git(project, "rev-parse", "--show-prefix").rstrip("\n")
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
    listed = _git(project, "status", *options, "--", *names).split("\0")
    return [os.path.relpath(entry[3:], prefix or ".") for entry in listed if entry]


def _check_fresh(repo: Any) -> None:
    """Raise PublishError if an output is not what 'dvc repro' would make now, or DVC's cache does not have it. A graph
    in a folder below counts as far as the project's needs its outputs: the demo's does not where the source is another.
    """
    graphs = [stage.path for stage in repo.index.stages if Path(stage.path).parent == Path(repo.root_dir)]
    added = [stage.path for stage in repo.index.stages if stage.path.endswith(".dvc")]
    # DVC gives them in another order each time.
    for stage, changes in sorted(repo.status(targets=sorted({*graphs, *added}), with_deps=True).items()):
        found = [_described(change) for change in changes if change != "always changed"]
        if found:
            raise PublishError(f"stage {stage} is not up to date ({'; '.join(found)}): run 'dvc repro'")


def _check_revs(repo: Any, project: Path) -> None:
    """Raise PublishError if a view would be made otherwise now. DVC cannot tell: the stage that notes what views are
    made by always runs."""
    stages = {stage.addressing: stage for stage in repo.index.stages}
    if REVS_STAGE not in stages:
        return
    from pipelines.params import load_params
    from pipelines.revs import declared_revs, read_revs

    noted = read_revs(Path(stages[REVS_STAGE].outs[0].fs_path))
    with chdir(project):  # where stages run: paths of weights may be relative
        declared = declared_revs(load_params(Path("params.yaml")).embed)
    stale = next((name for name, rev in declared.items() if rev != noted.get(name)), None)
    if stale is not None:
        revs = [views.get(stale, {}).get("rev") for views in (declared, noted)]
        raise PublishError(
            f"view {stale!r} would be made otherwise now: its rev is {revs[0]}, not {revs[1]} as when stage "
            f"{REVS_STAGE!r} ran; 'plait plan' says what differs: run 'dvc repro'"
        )


def _described(change: str | dict[str, dict[str, Any]]) -> str:
    """A change as DVC's status gives it: a text, or a kind with the states of paths (of params.yaml, by parameter)."""
    if isinstance(change, str):
        return change
    return "; ".join(f"{kind}: {_states(paths)}" for kind, paths in change.items())


def _states(paths: dict[str, Any]) -> str:
    return ", ".join(f"{path} {_states(state) if isinstance(state, dict) else state}" for path, state in paths.items())


def _check_store(project: Path) -> str:
    """What the store holds, in words; all of it is read. Raises PublishError if anything is wrong with it: DVC takes
    a damaged file for what the stage made."""
    store = features.open(project / PROJECT_STORE)
    problems = list(check(store))
    if problems:
        more = f" (and {len(problems) - 1} more, which 'plait check' lists)" if len(problems) > 1 else ""
        raise PublishError(f"{store.folder} is not whole: {problems[0]}{more}")
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
    """Send what the remote lacks; returns the number of files."""
    from dvc.exceptions import DvcException

    try:
        return int(repo.push(remote=name))
    except (DvcException, OSError) as error:
        raise PublishError(
            f"the DVC remote {name!r} did not take all files ({error}): nothing is committed; mend that and run again"
        ) from error


def _commit(project: Path, records: list[str], message: str) -> list[str]:
    """Commit the records that differ from those in git; returns them."""
    changed = _changed(project, *records)
    if changed:
        _git(project, "add", "--", *changed)
        _git(project, "commit", "--quiet", "--message", message, "--only", "--", *changed)
    return changed
