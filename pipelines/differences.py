"""What differs between two definitions, part by part, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.diff import differing

_SHOWN_CHARS = 12  # of a digest
_SHOWN_NAMES = 3  # of modules


@dataclass(frozen=True)
class Difference:
    """A part of a definition by its dotted name, with its values; None where a definition lacks it."""

    part: str
    before: Any
    after: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """The parts whose values differ, in the order of their names."""
    return [Difference(part, *values) for part, values in differing(before, after).items()]


def describe(found: Sequence[Difference], names: Mapping[str, str]) -> list[str]:
    """A line for each difference, and one for those of modules together.

    names: what parts are called, by the beginning of their dotted name; "code" for those that hold digests of
    modules, which are told without values.
    """
    lines, modules = [], []
    for difference in found:
        called, rest = _name(difference.part, names)
        if called == "code":
            modules.append(rest)
        else:
            values = f"{_value(difference.before)} -> {_value(difference.after)}"
            lines.append(f"{' '.join(word for word in (called, rest) if word)} {values}")
    if modules:
        listed = sorted(set(modules))
        more = f" and {len(listed) - _SHOWN_NAMES} more" if len(listed) > _SHOWN_NAMES else ""
        lines.append(f"code of {', '.join(listed[:_SHOWN_NAMES])}{more}")
    return lines


def _name(part: str, names: Mapping[str, str]) -> tuple[str, str]:
    """What the part is called, and its own name behind the beginning that this stands for."""
    for beginning, called in names.items():
        if part == beginning:
            return called, ""
        if part.startswith(f"{beginning}."):
            return called, part.removeprefix(f"{beginning}.")
    return names.get("", ""), part


def _value(value: Any) -> str:
    if value is None:
        return "none"
    is_digest = isinstance(value, str) and len(value) >= 32 and not value.strip("0123456789abcdef")
    return value[:_SHOWN_CHARS] if is_digest else str(value)
