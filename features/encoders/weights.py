"""Weights: where a model's files are, and what their bytes are."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from features.errors import EncoderError
from features.rev import digest_file, digest_json
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_OTHER_PATTERNS = ("*.json", "*.txt", "*.model")
# A hub is asked for safetensors alone: many repositories keep the same weights in other formats beside them.
_HUB_PATTERNS = ["*.safetensors", *_OTHER_PATTERNS]

# What libraries raise for files that are damaged, of another kind of model, or not all there.
LOAD_FAILURES = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, EOFError),
    *(struct.error, SafetensorError, pickle.UnpicklingError),
)
_SHOWN_CHARS = 300  # of what a library says went wrong

_is_fetching = ContextVar("is_fetching", default=False)


@contextmanager
def fetching() -> Iterator[None]:
    """Let what is done meanwhile download named weights that are not here; nothing else asks the network."""
    token = _is_fetching.set(True)
    try:
        yield
    finally:
        _is_fetching.reset(token)


def is_fetching() -> bool:
    """Whether weights that are not here may be downloaded."""
    return _is_fetching.get()


def missing_weights(encoder: str, where: str, instead: str) -> EncoderError:
    """What to say of weights that are not where they are looked for; instead: what else a user may give."""
    fetch = f"run 'plait encoders fetch {encoder}' where there is a network"
    return EncoderError(f"encoder {encoder!r}: its weights are not in {where}: {fetch}, or give {instead}")


def find_folder(name: str, encoder: str) -> Path:
    """A model's folder: the local folder of that name, or a hub's one in the hub's cache, brought there if fetching.

    Raises EncoderError if there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise EncoderError(f"encoder {encoder!r}: there is no folder {folder}")
    try:
        cached = _cached_snapshot(name)
    except HFValidationError as error:
        raise EncoderError(f"encoder {encoder!r}: {name!r} is neither a local folder nor a hub's name") from error
    if cached is not None:
        return cached
    if not is_fetching():
        raise missing_weights(encoder, "the hub's cache", "the path of a folder")
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, OSError) as error:
        raise EncoderError(
            f"encoder {encoder!r}: {name!r} is no local folder, is not in the hub's cache and cannot be downloaded "
            f"({type(error).__name__}): check the name and the network, or give the path of a folder"
        ) from error


def local_folder(name: str) -> Path | None:
    """A model's folder if it is on this machine."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    try:
        return _cached_snapshot(name)
    except HFValidationError:
        return None


def _cached_snapshot(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if any(folder.rglob("*.safetensors")) else None


def find_url(url: str, encoder: str) -> Path:
    """The weights file of that address in torch's cache, brought there if fetching.

    Raises EncoderError if it is not there. A file whose name ends in a part of its sha256 is checked as it comes.
    """
    from torch.hub import HASH_REGEX, download_url_to_file, get_dir

    path = Path(get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    if not is_fetching():
        raise missing_weights(encoder, str(path), "a file in the option weights")
    digest = HASH_REGEX.search(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, str(path), digest.group(1) if digest else None, progress=False)
    except (OSError, RuntimeError) as error:  # of the network; of bytes that are not those of the name
        raise EncoderError(
            f"encoder {encoder!r}: {url} cannot be downloaded ({type(error).__name__}): check the network, put the "
            f"file into {path.parent}, or name one with the option weights"
        ) from error
    return path


def digest_weights(path: Path, encoder: str) -> str:
    """sha256 of a weights file, or a digest over the weights, settings and vocabulary in a model's folder."""
    if path.is_file():
        return _digest_file(path)
    if not any(file for pattern in _WEIGHTS_PATTERNS for file in path.rglob(pattern)):
        raise EncoderError(f"encoder {encoder!r}: {path} holds no weights ({', '.join(_WEIGHTS_PATTERNS)})")
    files = sorted({file for pattern in _WEIGHTS_PATTERNS + _OTHER_PATTERNS for file in path.rglob(pattern)})
    return digest_json({file.relative_to(path).as_posix(): _digest_file(file) for file in files})


def _digest_file(path: Path) -> str:
    stat = path.stat()
    return _digest_unchanged(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_unchanged(path: Path, num_bytes: int, mtime_ns: int) -> str:
    return digest_file(path)


@contextmanager
def loading(path: Path, what: str) -> Iterator[None]:
    """Raise EncoderError where a library fails as it loads the files there. what: what they should be."""
    try:
        yield
    except pickle.UnpicklingError as error:  # torch's own text would have one run what the file says
        raise EncoderError(
            f"{path} has a weights file that is damaged or no plain tensors: save the model as safetensors"
        ) from error
    except LOAD_FAILURES as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:_SHOWN_CHARS]}"
        raise EncoderError(f"{path} holds no {what} that loads: {said}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """What a model's JSON file says, nothing if there is no such file. Raises EncoderError if it cannot be read."""
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise EncoderError(f"{path} is no JSON ({error}): save or fetch the model again") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{path} is no JSON object: save or fetch the model again")
    return settings


def check_pinned(path: Path, sha256: str, install: str) -> None:
    """Raise EncoderError unless the file is there and has exactly the bytes that its package was pinned with."""
    if not path.is_file():
        raise EncoderError(f"{path} is missing: {install} --force-reinstall")
    found = _digest_file(path)
    if found != sha256:
        raise EncoderError(f"{path} has sha256 {found}, not the pinned {sha256}: {install} --force-reinstall")


def find_weights_file(name: str, encoder: str) -> Path:
    """The weights file of that name. Raises EncoderError if there is none."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise EncoderError(f"encoder {encoder!r}: there is no weights file {path}")
    return path.resolve()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name. A pickle is never run: only tensors are read from it."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except LOAD_FAILURES as error:
        raise EncoderError(
            f"{path} holds no plain tensors ({type(error).__name__}): save it with safetensors.torch.save_file"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise EncoderError(f"{path} is no mapping of names to tensors: save model.state_dict() alone")
    return state


def check_pin(view: View, digest: str | None) -> None:
    """Raise EncoderError if the view pins other weights than those of this digest."""
    if view.weights_digest not in (None, digest):
        what = "has no weights" if digest is None else f"has weights {digest}"
        raise EncoderError(
            f"view {view.name!r} pins weights_digest {view.weights_digest}, but its encoder {view.encoder!r} {what} "
            "here: bring the pinned ones, or change the pin"
        )
