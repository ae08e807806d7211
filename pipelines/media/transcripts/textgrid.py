"""Praat TextGrids, long and short, read by the package praatio.

praatio finds fields by patterns: it takes no notice of a minus sign nor of the sizes that the file declares, so that a
short file which breaks off reads as a shorter one. Both are checked here.
"""

import itertools
import re

from praatio.utilities.errors import PraatioException
from praatio.utilities.textgrid_io import parseTextgridStr

from pipelines.media.transcripts.tiers import Tier
from pipelines.media.transcripts.transcript import bad, decode_text, seconds_of

_STRING = re.compile(r'"(?:[^"]|"")*"')
_NUMBER_OF_TIERS = re.compile(r"<exists>\s*(?:size\s*=\s*)?(\d{1,9})\s")
# How many entries each tier has: in the long form, and in the short one after the tier's class, name, start and end.
_NUMBERS_OF_ENTRIES = re.compile(
    r"(?:intervals|points)\s*:\s*size\s*=\s*(\d{1,9})\s"
    r'|"(?:IntervalTier|TextTier)"\s+"(?:[^"]|"")*"\s+[\d.]+\s+[\d.]+\s+(\d{1,9})\s'
)
_NEGATIVE = re.compile(r"(?<!\S)-[\d.]*[1-9]")
_NUM_HEAD_STRINGS = 2  # the file's type and the object's class
_NUM_TIER_STRINGS = 2  # the tier's class and name
_OVERLAP_S = 1e-6  # boundaries are written with as many digits as they need


def read_textgrid(content: bytes) -> list[Tier]:
    """The tiers of a TextGrid. Raises MediaError BAD_TRANSCRIPT if it is none, breaks off or overlaps itself."""
    text = decode_text(content)
    if "ooTextFile" not in text[:100] or '"TextGrid"' not in text[:200]:
        raise bad("it is no TextGrid in text form ('File type = \"ooTextFile\"'): save it so in Praat")
    _check_signs(text)
    try:
        found = parseTextgridStr(text, includeEmptyIntervals=True)["tiers"]
    except (PraatioException, ValueError, IndexError, KeyError) as error:
        raise bad(f"TextGrid cannot be read, it is broken or breaks off: {' '.join(str(error).split())}") from error
    _check_sizes(text, [len(tier["entries"]) for tier in found])
    return [_tier(tier["name"], tier["class"], tier["entries"]) for tier in found]


def _check_signs(text: str) -> None:
    for number, line in enumerate(_blank_strings(text).split("\n"), start=1):
        if _NEGATIVE.search(line):
            raise bad(f"TextGrid, line {number}: {line.strip()!r} is negative, times count from the recording's start")


def _check_sizes(text: str, num_entries: list[int]) -> None:
    """Raise MediaError BAD_TRANSCRIPT unless there are as many tiers and entries as the file declares and has strings
    for."""
    declared = [int(long or short) for long, short in _NUMBERS_OF_ENTRIES.findall(text)]
    num_tiers = _NUMBER_OF_TIERS.search(_blank_strings(text))
    num_strings = _NUM_HEAD_STRINGS + sum(_NUM_TIER_STRINGS + num for num in num_entries)
    if (
        num_tiers is None
        or int(num_tiers[1]) != len(num_entries)
        or declared != num_entries
        or num_strings != len(_STRING.findall(text))
    ):
        number = num_tiers[1] if num_tiers else "no"
        raise bad(
            f"TextGrid declares {number} tiers of {declared} entries, it has {num_entries}: it is broken or breaks off"
        )


def _blank_strings(text: str) -> str:
    """The text with nothing in its quotes, on the same lines."""
    return _STRING.sub(lambda match: '"' + "\n" * match[0].count("\n") + '"', text)


def _tier(name: str, kind: str, entries: list[tuple[str, str, str]]) -> Tier:
    if kind != "IntervalTier":
        return Tier(name, (), "has points in time, no intervals")
    where = f"TextGrid, tier {name!r}"
    intervals = [(seconds_of(start, where), seconds_of(end, where), text) for start, end, text in entries]
    for before, after in itertools.pairwise(intervals):
        if after[0] < before[1] - _OVERLAP_S:
            raise bad(
                f"{where}: interval {after[0]:g} to {after[1]:g} s overlaps the one before, which ends at "
                f"{before[1]:g} s"
            )
    return Tier(name, intervals)
