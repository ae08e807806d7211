"""Past versions: a store as a git revision of its project has it, read in place from DVC's cache.

What the cache lacks is fetched into it from the project's DVC remotes, one file when it is first asked for.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from features.errors import ShardError, StoreError, nearest
from features.files import StoreFiles
from features.manifest import FORMAT_VERSION, MANIFEST_FILE
from features.store import PROJECT_STORE

_LISTED_TAGS = 5


@dataclass(frozen=True)
class DvcObjects:
    """The files that DVC of a project keeps by their digest: in its cache, and in its remotes.

    remote: of the output that the files belong to, where it has one of its own.
    """

    project: Path
    cache: Path
    hash_name: str
    remote: str | None

    def place(self, oid: str) -> Path:
        """Where the object of this digest is in the cache, whether or not it is there."""
        return self.cache / oid[:2] / oid[2:]

    def fetch(self, oid: str, what: str) -> None:
        """Copy an object into the cache from the first remote that has it; what: its name in messages.

        Raises ShardError if no remote has it whole, or none can be read.
        """
        from dvc.exceptions import DvcException

        cache, remotes = self._databases
        tried, damaged = [], []
        for name, connect in remotes.items():
            try:
                remote = connect()
                if self._copy(cache, remote, oid):
                    return
                damaged.append(remote.fs.unstrip_protocol(remote.oid_to_path(oid)))
                tried.append(f"remote {name!r}, whose copy is damaged")
            except FileNotFoundError:
                tried.append(f"remote {name!r}")
            except (DvcException, OSError) as error:
                tried.append(f"remote {name!r} ({error})")
        where = "and the project has no DVC remote" if not tried else f"nor in {' nor in '.join(tried)}"
        cure = "run 'dvc push --all-commits' where that version was made, or 'dvc remote add' if it is elsewhere"
        if damaged:
            cure = (
                f"replace {damaged[0]} by the file of that name in DVC's cache where that version was made; 'dvc push' "
                "passes over it"
            )
        raise ShardError(f"{what} (md5 {oid}) is not in DVC's cache {self.cache}, {where}: {cure}")

    def _copy(self, cache: Any, remote: Any, oid: str) -> bool:
        """Copy an object from a remote unless its bytes have another digest; whether they have the right one.

        DVC's own transfer between folders empties the object before it fills it, also if another process reads it.
        """
        path = self.place(oid)
        cache.makedirs(str(path.parent))
        with TemporaryDirectory(dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            remote.fs.get_file(remote.oid_to_path(oid), str(temporary))
            with open(temporary, "rb") as file:
                # The older kind of digest, of text with other line ends, is left to DVC.
                if self.hash_name == "md5" and hashlib.file_digest(file, "md5").hexdigest() != oid.partition(".")[0]:
                    return False
            cache.protect(str(temporary))
            os.replace(temporary, path)
        return True

    @cached_property
    def _databases(self) -> tuple[Any, dict[str, Any]]:
        """DVC's object database of the cache, and for each remote, the default first, what opens the one of it."""
        with open_project(self.project) as repo:
            first = self.remote or repo.config["core"].get("remote")
            names = sorted(repo.config["remote"], key=lambda name: name != first)
            cache = repo.cache.local if self.hash_name == "md5" else repo.cache.legacy
            cloud = repo.cloud

            def opener(name: str) -> Any:
                return lambda: cloud.get_remote_odb(name, "fetch", self.hash_name)

            return cache, {name: opener(name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass
class RevisionFiles:
    """The files of the version that a commit's dvc.lock names. Pickled, it is the same version in another process.

    folder: what messages call the version; store: where the working version is; oids: DVC's digest of each file.
    """

    folder: Path
    store: Path
    rev: str
    commit: str
    objects: DvcObjects
    oids: dict[str, str]

    @property
    def manifest(self) -> bytes:
        """The content of the manifest. Raises ShardError if it can be had no longer."""
        for path in self.places(MANIFEST_FILE):
            with suppress(FileNotFoundError):
                return path.read_bytes()
        raise ShardError(f"{self.folder / MANIFEST_FILE} went from DVC's cache while it was read: try again")

    def places(self, name: str) -> Iterator[Path]:
        """The object in DVC's cache; if it is not there, the same place again after it has been fetched.

        Raises ShardError if the version has no such file, or no remote has it.
        """
        if name not in self.oids:
            raise ShardError(f"{self.folder / name} is in the manifest, but not in what DVC keeps of that version")
        path = self.objects.place(self.oids[name])
        yield path
        self.objects.fetch(self.oids[name], str(self.folder / name))
        yield path


def open_revision(path: Path, rev: str) -> RevisionFiles:
    """The files of a store at a git revision: a tag, a branch, a commit, or what git derives from one ("v1.2~1").

    path: a project, or the folder of a store that is an output of one or in one; it need not exist at present.
    Raises StoreError if path is in no project of git and DVC, git knows no such revision, or there is no store in it
    that this Plait reads; ShardError if the store's manifest is neither in DVC's cache nor in a remote.
    """
    files = _open_output(Path(os.path.abspath(path)), rev, (Path(), PROJECT_STORE))
    if MANIFEST_FILE not in files.oids:
        raise StoreError(f"{files.folder} holds no {MANIFEST_FILE}, so it is no feature store: choose another revision")
    found = json.loads(files.manifest).get("format_version")
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{files.folder} has format {found}; this Plait reads format {FORMAT_VERSION}: read it with the Plait of "
            "its time, in a folder made by 'git worktree add'"
        )
    return files


def open_beside(files: StoreFiles, rev: str) -> RevisionFiles:
    """The files of another version of the store that these are of. Raises as open_revision() does."""
    return open_revision(files.store if isinstance(files, RevisionFiles) else files.folder, rev)


def file_beside(files: StoreFiles, folder: str, name: str) -> Path | None:
    """Where a file is that another stage made for the same version as the store's; None if it cannot be had.

    folder: beside the store's, as "ingest". A past version's is fetched where DVC's cache lacks it.
    """
    if not isinstance(files, RevisionFiles):
        path = files.folder.resolve().parent / folder / name
        return path if path.is_file() else None
    with suppress(StoreError, ShardError):
        output = _open_output(files.store.parent / folder, files.commit, (Path(),))
        return next((path for path in output.places(name) if path.is_file()), None)
    return None


def commit_of(files: StoreFiles) -> dict[str, Any] | None:
    """The commit that has this version, and its tags; of a working version None unless HEAD has the same."""
    with suppress(StoreError, ShardError):
        if isinstance(files, RevisionFiles):
            version = files
        else:
            version = _open_output(Path(os.path.abspath(files.folder)), "HEAD", (Path(),))
            if version.oids.get(MANIFEST_FILE) != hashlib.md5(files.manifest).hexdigest():
                return None
        with open_project(version.store) as repo:
            tags = [tag for tag in repo.scm.list_tags() if repo.scm.resolve_rev(tag) == version.commit]
        return {"commit": version.commit, "tags": sorted(tags)}
    return None


@contextmanager
def open_project(place: Path) -> Iterator[Any]:
    """DVC's repository around a place. Raises StoreError if there is none, or DVC cannot work with it."""
    try:
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.repo import Repo
    except ImportError as error:
        raise StoreError(f"versions need DVC, which cannot be imported ({error}): install dvc") from None
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    try:
        with Repo(str(existing)) as repo:
            yield repo
    except NotDvcRepoError:
        raise StoreError(
            f"{place} is in no DVC project, so it has no versions: name the folder of a project, or leave the "
            "revision away"
        ) from None
    except DvcException as error:
        raise StoreError(f"DVC cannot read the project of {place}: {error}") from error


@contextmanager
def _switch(repo: Any, rev: str) -> Iterator[str]:
    """Make DVC look at a revision, and give its commit. Raises StoreError if git does not know it."""
    from dvc.scm import NoSCMError, RevError, SCMError, resolve_rev

    try:
        # The second makes a tree or a file, which DVC cannot look at, an unknown revision too.
        commit = resolve_rev(repo.scm, f"{resolve_rev(repo.scm, rev or '(none)')}^{{commit}}")
    except RevError:
        tags = sorted(repo.scm.list_tags())
        near = nearest(rev, [*tags, *repo.scm.list_branches()])
        listed = f"the last tags are {', '.join(tags[-_LISTED_TAGS:])}" if tags else "it has no tags"
        raise StoreError(f"git knows no revision {rev!r} in {repo.root_dir}{near}; {listed}") from None
    except (NoSCMError, SCMError):
        raise StoreError(f"{repo.root_dir} is no git repository, so it has no past versions: run 'git init'") from None
    with repo.switch(commit):
        yield commit


def _open_output(place: Path, rev: str, inside: Sequence[Path]) -> RevisionFiles:
    """What DVC keeps of a folder at a revision: of the place itself, or of the first of some folders in it."""
    with open_project(place) as repo:
        project = Path(repo.root_dir)
        with _switch(repo, rev) as commit:
            outs = {out.index_key[1]: out for out in repo.index.outs if out.index_key[0] == "repo"}
            for folder in (place / name for name in inside):
                key = folder.relative_to(project).parts
                for length in range(len(key), 0, -1):
                    if key[:length] in outs:
                        return _files_of(outs[key[:length]], project, folder, rev, commit)
    raise StoreError(
        f"revision {rev!r} of {project} has no output {folder.relative_to(project)}, so no such version: choose a "
        "revision whose dvc.yaml makes it"
    )


def _files_of(out: Any, project: Path, folder: Path, rev: str, commit: str) -> RevisionFiles:
    """What an output keeps below the folder."""
    called = folder.with_name(f"{folder.name}@{rev}")
    objects = DvcObjects(project, Path(out.cache.path), out.hash_name, out.remote)
    if not out.hash_info:
        raise StoreError(f"{called}: dvc.lock of that revision does not list it: run 'dvc repro' there, and commit it")
    if not out.hash_info.isdir:
        raise StoreError(f"{called} is a file, so it is no feature store: name a folder")
    tree = out.get_obj()
    if tree is None:
        objects.fetch(out.hash_info.value, f"the list of the files of {called}")
        tree = out.get_obj()
    inside = folder.relative_to(project).parts[len(out.index_key[1]) :]
    oids = {"/".join(key[len(inside) :]): oid.value for key, _, oid in tree if key[: len(inside)] == inside}
    return RevisionFiles(called, folder, rev, commit, objects, oids)
