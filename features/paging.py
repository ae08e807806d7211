"""Arrays that grow with a store and need no memory of the process.

They lie in files without a name. As with the store's own, their pages are the system's: it keeps them in memory while
there is room and writes them to disk where there is none, which it could not do with memory of a process unless it had
swap. Processes that are forked share them.
"""

import mmap
import os
from collections.abc import Iterable
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa

_SMALL_BYTES = 1 << 16  # are not worth a file
_LARGE_FILES = "/var/tmp"  # /tmp itself is memory on many systems


def paged_zeros(length: int, dtype: Any) -> np.ndarray:
    """[length], zeros; in memory where they are few or no file has room for them."""
    num_bytes = length * np.dtype(dtype).itemsize
    if num_bytes <= _SMALL_BYTES:
        return np.zeros(length, dtype)
    try:
        with TemporaryFile(dir=_folder()) as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes)  # a map of what has no room would end the process
            return np.frombuffer(mmap.mmap(file.fileno(), num_bytes), dtype)
    except OSError:
        return np.zeros(length, dtype)


def paged(blocks: Iterable[np.ndarray], dtype: Any) -> np.ndarray:
    """The blocks [n] one after the other; in memory where they are short or no file has room for them."""
    pages = Pages(dtype)
    for block in blocks:
        pages.append(block)
    return pages.array()


class Pages:
    """An array in the making."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file: Any = None
        self._written = 0
        self._held = bytearray()  # is to be written, or all that there is where nothing can be
        self._has_room = True

    def append(self, block: np.ndarray) -> None:
        """Put [n] behind what there is."""
        for start in range(0, len(block), _SMALL_BYTES):
            self._held += block[start : start + _SMALL_BYTES].astype(self._dtype, copy=False).tobytes()
            if len(self._held) > _SMALL_BYTES and self._has_room:
                self._write()

    def array(self) -> np.ndarray:
        """[all], that may be written to; nothing can be appended then."""
        if self._file and self._has_room:
            self._write()
        if not self._file:
            return np.frombuffer(self._held, self._dtype)
        with self._file:
            return np.frombuffer(mmap.mmap(self._file.fileno(), self._written), self._dtype)

    def _write(self) -> None:
        try:
            self._file = self._file or TemporaryFile(dir=_folder(), buffering=0)  # noqa: SIM115  # array() closes it
            while self._held:
                num_bytes = os.pwrite(self._file.fileno(), self._held, self._written)
                self._written += num_bytes
                del self._held[:num_bytes]
        except OSError:
            self._has_room = False
            if self._file:
                with self._file as file:
                    self._held[:0] = file.read()  # from its beginning: what was written went to places of its own
                self._file = None


class PagedTexts:
    """A column of texts in the making, some of which may be absent."""

    def __init__(self) -> None:
        self._letters, self._ends, self._present = Pages(np.uint8), Pages(np.int64), Pages(bool)
        self._ends.append(np.zeros(1))
        self._num_letters = self._num_absent = 0

    def append(self, texts: pa.Array) -> None:
        """Put some texts, of type string, behind those that there are."""
        present_N = np.ones(len(texts), bool)
        if texts.null_count:
            present_N = texts.is_valid().to_numpy(zero_copy_only=False)
            texts = texts.fill_null("")
        _, ends, letters = texts.buffers()
        ends_N = np.frombuffer(ends, np.int32, len(texts) + 1, offset=4 * texts.offset)
        start, stop = int(ends_N[0]), int(ends_N[-1])
        if letters:
            self._letters.append(np.frombuffer(letters, np.uint8, stop - start, offset=start))
        self._ends.append(ends_N[1:] + np.int64(self._num_letters - start))
        self._present.append(present_N)
        self._num_letters += stop - start
        self._num_absent += len(present_N) - int(np.count_nonzero(present_N))

    def array(self) -> pa.Array:
        """All texts; nothing can be appended then."""
        present_N = self._present.array()
        absent = paged([np.packbits(present_N, bitorder="little")], np.uint8) if self._num_absent else None
        ends, letters = (pa.py_buffer(pages.array()) for pages in (self._ends, self._letters))
        return pa.LargeStringArray.from_buffers(
            len(present_N), ends, letters, absent if absent is None else pa.py_buffer(absent)
        )


def _folder() -> str | None:
    return _LARGE_FILES if "TMPDIR" not in os.environ and os.access(_LARGE_FILES, os.W_OK) else None
