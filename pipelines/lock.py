"""One writer at a time: a lock beside each folder that a stage writes."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import StageError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs. The lock file lies beside it, since the folder itself is DVC's; the kernel
    lets go of the lock when the process ends in whatever way, so that none is ever left behind.

    Raises StageError at once if another run holds the folder, naming it.
    """
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StageError(
                f"{folder} is being written by {file.read().strip() or 'another run'}: wait until that ends or stop "
                "it, then run again"
            ) from error
        except OSError as error:
            raise StageError(
                f"{path} cannot be locked ({error.strerror}): keep data on a file system that has locks"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def lock_path(folder: Path) -> Path:
    """The file whose lock stands for the folder."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.lock")
