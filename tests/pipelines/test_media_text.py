import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.reasons import MediaError, Reason
from pipelines.media.text import clean_text


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  two\t words\r\n\u2003here ", "two words here"),
        ("cafÃ© &amp; bar", "café & bar"),
        ("cafe\u0301", "café"),
        ("be\x00ll\x07", "bell"),
        ("a \x07 b", "a b"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_clean_text_makes_uniform(raw: str, cleaned: str) -> None:
    assert clean_text(raw, max_chars=100) == cleaned


@given(st.text(max_size=100))
def test_clean_text_gives_visible_composed_words(raw: str) -> None:
    cleaned = clean_text("word " + raw, max_chars=10_000)
    assert cleaned == " ".join(cleaned.split())
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in cleaned)


@pytest.mark.parametrize("raw", ["", " \n\t", "\x00\x07"])
def test_clean_text_rejects_nothing_left(raw: str) -> None:
    with pytest.raises(MediaError) as caught:
        clean_text(raw, max_chars=10)
    assert caught.value.reason == Reason.EMPTY


def test_clean_text_measures_length_after_cleaning() -> None:
    assert clean_text("a" + " " * 50 + "b", max_chars=3) == "a b"
    with pytest.raises(MediaError, match="4 characters; max_chars is 3") as caught:
        clean_text("abcd", max_chars=3)
    assert caught.value.reason == Reason.TOO_LONG
