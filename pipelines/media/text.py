"""Cleaning of one text."""

import unicodedata

import ftfy

from features.reasons import MediaError, Reason


def clean_text(text: str, *, max_chars: int) -> str:
    """Mend mojibake and HTML entities, compose to Unicode NFC, drop control characters, collapse white space.

    Raises MediaError: EMPTY if nothing is left, TOO_LONG if more than max_chars are.
    """
    words = ftfy.fix_text(text).split()
    visible = ("".join(char for char in word if unicodedata.category(char) != "Cc") for word in words)
    cleaned = unicodedata.normalize("NFC", " ".join(word for word in visible if word))
    if not cleaned:
        raise MediaError(Reason.EMPTY, f"text of {len(text)} characters holds nothing visible")
    if len(cleaned) > max_chars:
        raise MediaError(Reason.TOO_LONG, f"text has {len(cleaned)} characters; max_chars is {max_chars}")
    return cleaned
