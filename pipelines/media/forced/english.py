"""English words to sounds: numbers in words, a pronouncing dictionary, and rules of spelling for what it lacks."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from pipelines.media.forced.aligning import CURLED_APOSTROPHE

Pronunciations = Mapping[str, Sequence[str]]
"""A word in lower case to the ways in which it is said, each as phones of ARPAbet with spaces between them."""

_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
_ONES, _TENS = _NUMBERS.split()[:20], _NUMBERS.split()[20:]
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_LARGEST = 10**12
_SIGNS = {"%": "percent", "&": "and", "+": "plus", "@": "at", "=": "equals", "$": "dollars", "€": "euros"}
_PART = re.compile(r"[a-z]+(?:'[a-z]+)*|[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|[%&+@=$€]")
_DOUBLED = re.compile(r"([b-df-hj-np-tv-z])\1")  # a consonant, said once
_MAX_ACRONYM = 5  # letters

# The commonest sound of each spelling; the longest that fits is taken. Enough to find a word by, not to say it well.
_SPELLING_RULES = """
tion:SH-AH-N sion:ZH-AH-N eigh:EY ough:AO igh:AY tch:CH dge:JH ch:CH sh:SH th:TH ph:F wh:W ck:K qu:K-W ng:NG gh:G
ee:IY ea:IY ie:IY ey:IY oo:UW ew:UW ue:UW ou:AW ow:OW oa:OW ai:EY ay:EY ei:EY oi:OY oy:OY au:AO aw:AO
er:ER ir:ER ur:ER ar:AA-R or:AO-R ce:S-EH ci:S-IH cy:S-IY a:AE b:B c:K d:D e:EH f:F g:G h:HH i:IH j:JH k:K l:L m:M n:N
o:AA p:P q:K r:R s:S t:T u:AH v:V w:W x:K-S y:IY z:Z
"""
_SPELLINGS = {
    letters: phones.replace("-", " ")
    for letters, _, phones in (rule.partition(":") for rule in _SPELLING_RULES.split())
}
_LONGEST_SPELLING = max(map(len, _SPELLINGS))


def pronounce(word: str, known: Pronunciations) -> list[str]:
    """The ways in which a written word may be said, the likeliest first; none if it has a letter that is not Latin.

    A number is said as a whole, in pairs of digits as years are, and digit by digit.
    """
    folded = unicodedata.normalize("NFKD", word.replace(CURLED_APOSTROPHE, "'"))
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    parts = _PART.findall(plain.lower())
    if not parts or any(char.isalnum() and not char.isascii() for char in plain):
        return []
    if len(parts) == 1 and not parts[0][0].isdigit():
        return _say_part(parts[0], known, is_acronym=plain.isupper())
    readings = [_readings(part) for part in parts]
    ways = []
    for turn in range(max(len(reading) for reading in readings)):
        spoken = " ".join(reading[min(turn, len(reading) - 1)] for reading in readings).split()
        ways.append(" ".join(_say_part(part, known)[0] for part in spoken))
    return list(dict.fromkeys(ways))


def _readings(part: str) -> list[str]:
    return number_readings(part) if part[0].isdigit() else [_SIGNS.get(part, part)]


def number_readings(number: str) -> list[str]:
    """The ways to read a number of digits, with commas between thousands and a decimal point, in words."""
    whole, _, decimals = number.replace(",", "").partition(".")
    by_digit = " ".join(_ONES[int(digit)] for digit in whole)
    if decimals:
        by_whole = _cardinal(int(whole)) if int(whole) < _LARGEST else by_digit
        return [" ".join([by_whole, "point", *(_ONES[int(digit)] for digit in decimals)])]
    readings = [_cardinal(int(whole))] if int(whole) < _LARGEST else []
    if len(whole) == 4:
        century, years = int(whole[:2]), int(whole[2:])
        ending = "hundred" if years == 0 else f"oh {_ONES[years]}" if years < 10 else _cardinal(years)
        readings.append(f"{_cardinal(century)} {ending}")
    return [*readings, by_digit] if len(whole) > 1 else readings


def _cardinal(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    scale, name = next(pair for pair in _SCALES if number >= pair[0])
    count, rest = divmod(number, scale)
    return f"{_cardinal(count)} {name}" + (f" {_cardinal(rest)}" if rest else "")


def _say_part(part: str, known: Pronunciations, *, is_acronym: bool = False) -> list[str]:
    """The ways to say one word: those of the dictionary, of letters one by one if it may be an acronym, else as it is
    spelt."""
    if part in known:
        return list(known[part])
    if part in _SIGNS:
        return list(known[_SIGNS[part]])
    spelt = spell(part)
    if is_acronym and len(part) <= _MAX_ACRONYM:
        return [" ".join(known[letter][0] for letter in part.replace("'", "")), spelt]
    return [spelt]


def spell(word: str) -> str:
    """The phones of a word of a-z by rules of spelling."""
    letters = _DOUBLED.sub(r"\1", word.replace("'", ""))
    if len(letters) > 3 and letters.endswith("e") and letters[-2] not in "aeiou":
        letters = letters[:-1]
    phones, place = [], 0
    while place < len(letters):
        length = next(n for n in range(_LONGEST_SPELLING, 0, -1) if letters[place : place + n] in _SPELLINGS)
        phones.append(_SPELLINGS[letters[place : place + length]])
        place += length
    return " ".join(phones)
