"""Words of a recording found in its sound, and their way through align."""

from typing import Any

import numpy as np
import pytest
from spoken import RATE_HZ, errors_s, speak

from features.errors import ConfigError
from features.reasons import Reason
from features.sample import MediaRow, media_row
from pipelines.align import Align, align_settings
from pipelines.force_words import aligner_settings, force_words
from pipelines.media.audio import to_pcm16
from pipelines.media.spans import span
from pipelines.params import AlignParams, ForcedParams

FORCED = ForcedParams(aligner="pocketsphinx", min_confidence=0.03)
SAID = "nobody could understand why these old machines broke down every winter"
MORE = "my brother plays loud music while our neighbours cook dinner"
LATE_S = 0.75  # when the sound begins


def recording(wave_T: np.ndarray, **changes: Any) -> MediaRow:
    given = {"key": "rec", "recording": "rec", "group": "rec", "split": "train", "variant": 0, "source_digest": "0"}
    audio = {"audio": to_pcm16(wave_T), "audio_rate_hz": RATE_HZ, "audio_start_s": LATE_S}
    return media_row(**{**given, **audio, **changes})


def test_force_words_finds_the_text_in_the_whole_recording() -> None:
    wave_T, known = speak(SAID)
    words, losses = force_words(recording(wave_T, text=SAID.capitalize()), FORCED)
    assert losses == []
    assert words is not None
    assert [word["text"] for word in words] == SAID.capitalize().split()
    times = [(word["start_s"] - LATE_S, word["end_s"] - LATE_S) for word in words]
    assert np.median(errors_s(times, known)) < 0.03


def test_force_words_looks_for_each_cue_in_its_own_time() -> None:
    wave_T, known = speak(f"{SAID} {MORE}")
    middle_s = LATE_S + (known[10][1] + known[11][0]) / 2
    last_s = LATE_S + len(wave_T) / RATE_HZ
    cues = [
        span(LATE_S, middle_s, text=SAID),
        span(middle_s, middle_s, text="no time"),
        span(middle_s, last_s + 3, text=MORE),
        span(last_s + 4, last_s + 5, text="beyond"),
    ]
    words, losses = force_words(recording(wave_T, cues=cues), FORCED)
    assert words is not None
    assert [word["text"] for word in words] == f"{SAID} {MORE}".split()
    times = [(word["start_s"] - LATE_S, word["end_s"] - LATE_S) for word in words]
    assert np.median(errors_s(times, known)) < 0.03
    (loss,) = losses
    assert (loss.reason, loss.dropped) == (Reason.OUTSIDE_MEDIA, "part")
    where = f"{last_s + 4:.3f} to {last_s + 5:.3f} s: there is no sound at its time"
    assert loss.text == f"1 of its 3 stretches of transcript have no words with times; the first, {where}"


def test_force_words_warns_of_another_recordings_transcript_and_makes_up_no_times() -> None:
    wave_T, _ = speak(MORE)
    words, (loss,) = force_words(recording(wave_T, text=SAID), FORCED)
    assert words is None
    assert (loss.key, loss.reason, loss.dropped) == ("rec", Reason.NOT_ALIGNED, "nothing")
    assert "11 words in" in loss.text
    assert "min_confidence is 0.03" in loss.text


def test_force_words_names_the_words_it_cannot_say() -> None:
    wave_T, _ = speak("three old machines")
    words, (loss,) = force_words(recording(wave_T, text="three 北京 old machines"), FORCED)
    assert words is not None
    assert len(words) == 3
    assert (loss.reason, loss.dropped) == (Reason.NOT_ALIGNED, "part")
    assert loss.text == "1 of its words ('北京'), which the aligner cannot say, have no times"


@pytest.mark.parametrize(
    "changes",
    [{"text": SAID, "words": [span(1, 2, text="given")]}, {"text": SAID, "audio": None}, {}, {"cues": [span(0, 1)]}],
)
def test_force_words_leaves_alone_what_has_words_or_nothing_to_find(changes: dict[str, Any]) -> None:
    row = recording(np.zeros(RATE_HZ, np.float32), **changes)
    assert force_words(row, FORCED) == (row["words"], [])
    assert force_words(row, None) == (row["words"], [])


def test_align_cuts_by_the_words_that_were_found() -> None:
    wave_T, known = speak(f"{SAID} {MORE}", pause_s=0.12)
    params = AlignParams(forced=FORCED, by="words", min_s=0.1, max_s=4.0, max_reject_ratio=0.2)
    rows, rejects = Align(params)(recording(wave_T, text=f"{SAID} {MORE}"))
    assert rejects == []
    assert len(rows) > 1
    assert " ".join(row["text"] for row in rows) == f"{SAID} {MORE}"
    assert sum(len(row["words"]) for row in rows) == len(known)
    again, _ = Align(params)(recording(wave_T, text=f"{SAID} {MORE}"))
    assert again == rows


def test_align_keeps_a_recording_whose_words_are_not_found() -> None:
    wave_T = (0.01 * np.random.default_rng(0).standard_normal(3 * RATE_HZ)).astype(np.float32)
    rows, rejects = Align(AlignParams(forced=FORCED, min_s=0.1, max_reject_ratio=0.2))(recording(wave_T, text=SAID))
    assert [(row["text"], row["words"]) for row in rows] == [(SAID, None)]
    assert [(reject.reason, reject.dropped) for reject in rejects] == [("not_aligned", "nothing")]


def test_align_settings_know_the_aligner_and_its_model() -> None:
    off, on = (align_settings(AlignParams(forced=forced, min_s=0.1, max_reject_ratio=0.2)) for forced in (None, FORCED))
    assert set(on["aligner"]) == {"model", "pocketsphinx"}
    assert "aligner" not in off
    modules = {f"pipelines.media.forced.{name}" for name in ("sphinx", "english")}
    assert modules <= set(on["code"])
    assert not modules & set(off["code"])
    assert "pipelines.media.forced.ctc" not in on["code"]


def test_aligner_settings_names_the_parameter_whose_model_is_not_there() -> None:
    missing = ForcedParams(aligner="ctc", model="/nowhere", min_confidence=0.1)
    with pytest.raises(ConfigError, match=r"^align\.forced\.model: .*there is no folder /nowhere"):
        aligner_settings(missing)
