"""The options of a view's encoder, checked against those that it has."""

import difflib
import math
from typing import Any

from features.errors import EncoderError
from features.view import View


def read_options(view: View, **defaults: int | float | str) -> dict[str, Any]:
    """The encoder's options with the view's own values in place of the defaults.

    A value has the type of its default; a whole number is at least 1, any other above 0. Raises EncoderError for an
    unknown option or a wrong value.
    """
    for name, value in view.options.items():
        where = f"view {view.name!r}: option {name!r} of encoder {view.encoder!r}"
        if name not in defaults:
            raise EncoderError(f"{where} is unknown{_suggestion(name, list(defaults))}")
        if isinstance(defaults[name], int):
            fits, rule = type(value) is int and value >= 1, "a whole number of at least 1"
        elif isinstance(defaults[name], float):
            fits, rule = type(value) in (int, float) and 0 < value < math.inf, "a number above 0"
        else:
            fits, rule = isinstance(value, str), "a text"
        if not fits:
            raise EncoderError(f"{where} is {value!r}; it must be {rule}")
    return {**defaults, **view.options}


def _suggestion(name: str, known: list[str]) -> str:
    if not known:
        return ": it has no options"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f": did you mean {near!r}? It has {', '.join(known)}"
