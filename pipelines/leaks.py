"""What would make a test score too good: the same bytes on both sides of a split."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

MEDIA = ("image", "audio", "video")


def find_leaks(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One line for each media file whose bytes recordings of different splits have, with two of their keys."""
    keys: dict[str, dict[str, str]] = defaultdict(dict)
    names: dict[str, str] = {}
    for row in rows:
        for column in MEDIA:
            if row[column] is not None:
                keys[row[column]["digest"]].setdefault(row["split"], row["key"])
                names.setdefault(row[column]["digest"], f"{column} {row[column]['uri']}")
    return [
        f"{names[digest]} is in " + " and ".join(f"{split} ({key})" for split, key in sorted(by_split.items()))
        for digest, by_split in keys.items()
        if len(by_split) > 1
    ]


def describe_leaks(leaks: list[str]) -> str:
    """One line on the leaks, of which there is at least one."""
    return (
        f"clean: {len(leaks)} {'file is' if len(leaks) == 1 else 'files are'} in more than one split, so test scores "
        f"will flatter: {leaks[0]}. "
        "Give rows that share a file one group"
    )
