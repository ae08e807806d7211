"""Compiling loops for the processor they run on."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit

Loop = Callable[..., Any]


def compiled(*signatures: tuple[Any, ...], **options: Any) -> Callable[[Loop], Loop]:
    """Compile a loop for each of these types of its arguments, and keep it for other processes where there is a place
    for it. options: of numba's njit.
    """

    def compile_loop(loop: Loop) -> Loop:
        made = njit(loop, **options)
        with suppress(RuntimeError):  # neither the folder of this file nor one of the user's can be written
            made.enable_caching()
        for signature in signatures:
            made.compile(signature)
        return made

    return compile_loop
