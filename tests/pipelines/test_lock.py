"""Two writers of one folder: real processes, of which one waits in the middle of its work."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from features.errors import StageError
from pipelines.lock import lock_path, writing

_HOLD = """
import sys
from pathlib import Path
from pipelines.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
_ROOT = Path(__file__).parents[2]


@contextmanager
def other_writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder until its standard input ends."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_writing_fails_at_once_while_another_process_writes_and_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "clean"
    with other_writer(folder) as process:
        holder = f"process {process.pid} on {socket.gethostname()}"
        with pytest.raises(StageError) as raised, writing(folder):
            pass
        assert str(raised.value) == (
            f"{folder} is being written by {holder}: wait until that ends or stop it, then run again"
        )
        with writing(tmp_path / "data" / "align"):  # another folder is free
            pass


def test_writing_goes_on_after_the_holder_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    with other_writer(folder) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with writing(folder):
            assert lock_path(folder).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_writing_holds_against_a_thread_of_its_own_and_lets_go_after_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    with writing(folder), pytest.raises(StageError, match=f"process {os.getpid()}"), writing(folder):
        pass
    with pytest.raises(ZeroDivisionError), writing(folder):
        raise ZeroDivisionError
    with writing(folder):
        pass
    assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".clean.lock"]


def test_writing_takes_a_folder_for_itself_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "clean")
    monkeypatch.chdir(tmp_path)
    with writing(Path("clean")), pytest.raises(StageError, match="link is being written"), writing(tmp_path / "link"):
        pass
