"""A separate recorder beside a film, from its file to its segments."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from corpus import PARAMS_FILE
from two_recorders import RATE_HZ, Event, make_event, with_noise, write_film

from features.reasons import MediaError, Reason
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import shard_writer
from pipelines.align import Align
from pipelines.clean import Clean
from pipelines.media.audio import from_pcm16
from pipelines.media.slicing import media_tracks
from pipelines.media.spans import span
from pipelines.media.tracks import AudioTrack
from pipelines.params import CleanSyncParams, load_params
from pipelines.raw import FILE_COLUMNS, file_ref
from pipelines.recorder import place_recorder, say_recorders
from pipelines.view_worker import as_media

PARAMS = load_params(PARAMS_FILE).clean
_CLICK_S = 0.002


def cleaned(folder: Path, params: Any = PARAMS) -> tuple[list[dict[str, Any]], list[Any]]:
    """What clean makes of film.mkv and film.wav."""
    row = dict.fromkeys(("label", "text", "meta", "intervals", "copy_of", "made", *FILE_COLUMNS))
    row |= {"key": "film", "group": "film", "split": "train", "source_digest": "0"}
    row |= {"video": file_ref("film.mkv"), "audio": file_ref("film.wav")}
    return Clean(params, str(folder))(row)


def with_click(event: Event, at_s: float) -> Event:
    """The event with a loud click at a time of the reference's clock."""
    wave_T = event.wave_T.copy()
    rate_hz = 4 * RATE_HZ
    first = round((at_s - event.first_s) * rate_hz)
    wave_T[first : first + round(_CLICK_S * rate_hz)] = 1.5
    return Event(wave_T, event.first_s)


def when_loudest(wave_T: np.ndarray, rate_hz: float, start_s: float) -> float:
    return start_s + float(np.argmax(np.abs(wave_T))) / rate_hz


def test_clean_lays_a_separate_recorder_on_the_clock_of_its_film(tmp_path: Path) -> None:
    event = with_click(make_event(60.0, 1, first_s=-5.0), 31.0)
    write_film(tmp_path / "film.mkv", with_noise(0.2 * event.record(40.0), 2, snr_db=6), start_s=0.5)
    other_T = with_noise(0.2 * event.record(45.0, offset_s=-3.25, drift_ppm=180.0), 3, snr_db=6)
    soundfile.write(tmp_path / "film.wav", other_T, RATE_HZ)
    (row,), rejects = cleaned(tmp_path)
    assert rejects == []
    assert row["audio_offset_s"] == row["audio_start_s"] == pytest.approx(-2.75, abs=0.001)
    assert row["audio_drift_ppm"] == pytest.approx(180, abs=3)
    assert 0.5 < row["audio_confidence"] <= 1
    assert len(row["audio"]) == 2 * 45 * 16_000, "the recorder's samples stay as many as they were"
    (segment,), _ = Align(load_params(PARAMS_FILE).align)({**row, "labels": [span(30.0, 33.0, label="click")]})
    assert segment["audio_start_s"] == 30.0
    assert [segment[name] for name in ("audio_offset_s", "audio_drift_ppm")] == [-2.75, row["audio_drift_ppm"]]
    assert when_loudest(from_pcm16(segment["audio"]), 16_000, 30.0) == pytest.approx(31.5, abs=0.005)


def test_clean_says_what_a_recorder_is_rejected_for(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mkv", make_event(20.0, 4).record(20.0))
    soundfile.write(tmp_path / "film.wav", make_event(20.0, 5).record(20.0), RATE_HZ)
    (row,), (reject,) = cleaned(tmp_path)
    assert (row["audio"], row["audio_start_s"], row["audio_confidence"]) == (None, None, None)
    assert row["frames"]
    assert (reject.reason, reject.dropped) == (Reason.UNSYNCHRONISED, "audio")
    assert "clean.sync.min_confidence is 0.3" in reject.text
    assert "set clean.sync to null" in reject.text


def test_clean_takes_a_recorder_as_it_is_where_sync_is_off(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mkv", make_event(5.0, 4).record(5.0))
    soundfile.write(tmp_path / "film.wav", make_event(5.0, 5).record(5.0), RATE_HZ)
    (row,), rejects = cleaned(tmp_path, PARAMS.model_copy(update={"sync": None}))
    assert rejects == []
    assert (row["audio_start_s"], row["audio_offset_s"], row["audio_confidence"]) == (0.0, None, None)


@pytest.mark.parametrize("sound", [np.zeros(5 * RATE_HZ, np.float32), None], ids=["silent", "none"])
def test_clean_warns_of_a_film_without_sound_to_compare(tmp_path: Path, sound: np.ndarray | None) -> None:
    if sound is None:
        import media_files

        media_files.write_recording(tmp_path / "film.mkv", media_files.Script(audio=(), format="matroska"))
    else:
        write_film(tmp_path / "film.mkv", sound)
    soundfile.write(tmp_path / "film.wav", make_event(5.0, 5).record(5.0), RATE_HZ)
    (row,), (warning,) = cleaned(tmp_path)
    assert (row["audio_start_s"], row["audio_offset_s"]) == (0.0, None)
    assert (warning.reason, warning.dropped) == (Reason.NO_REFERENCE, "nothing")


def test_place_recorder_warns_of_a_long_stretch_that_nothing_confirms(tmp_path: Path) -> None:
    event = make_event(300.0, 6)
    write_film(tmp_path / "film.mkv", event.record(300.0))
    other_T = event.record(300.0, offset_s=0.5)
    other_T[60 * RATE_HZ : 200 * RATE_HZ] = 1e-3 * np.random.default_rng(7).standard_normal(140 * RATE_HZ)
    track = AudioTrack(other_T, RATE_HZ, 0.0)
    place, (notice,) = place_recorder(track, lambda: tmp_path / "film.mkv", CleanSyncParams(), silence_dbfs=-60.0)
    assert place["audio_start_s"] == pytest.approx(0.5, abs=0.001)
    assert (notice.reason, notice.dropped) == (Reason.UNSYNCHRONISED, "nothing")
    assert notice.text.startswith("from 6")


def test_place_recorder_of_the_very_sound_of_the_film_changes_nothing(tmp_path: Path) -> None:
    wave_T = make_event(8.0, 8).record(8.0)
    write_film(tmp_path / "film.mkv", wave_T)
    track = AudioTrack(wave_T, RATE_HZ, 0.0)
    place, _ = place_recorder(track, lambda: tmp_path / "film.mkv", CleanSyncParams(), silence_dbfs=-60.0)
    assert (place["audio_start_s"], place["audio_drift_ppm"] or 0.0) == (0.0, 0.0)
    assert place["audio_confidence"] > 0.9


def test_place_recorder_needs_the_confidence_that_is_asked_for(tmp_path: Path) -> None:
    event = make_event(8.0, 9)
    write_film(tmp_path / "film.mkv", with_noise(event.record(8.0), 10))
    track = AudioTrack(with_noise(event.record(8.0), 11), RATE_HZ, 0.0)
    with pytest.raises(MediaError, match=r"min_confidence is 1: check"):
        place_recorder(track, lambda: tmp_path / "film.mkv", CleanSyncParams(min_confidence=1.0), silence_dbfs=-60.0)


def test_drift_stretches_the_times_of_audio() -> None:
    row = {"audio": bytes(2 * 1000), "audio_rate_hz": 100, "audio_start_s": 2.0, "audio_drift_ppm": 500.0}
    assert media_tracks({**row, "frames": None})["audio"] == pytest.approx((2.0, 12.005))
    audio = as_media({**row, "start_s": 1.0}, "audio")
    assert (audio.start_s, audio.stretch) == (1.0, 1.0005)


def test_say_recorders_is_silent_without_recorders(capsys: pytest.CaptureFixture[str]) -> None:
    say_recorders([])
    assert capsys.readouterr().err == ""


def test_say_recorders_tells_how_many_and_how_far_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = media_row(key="a", recording="a", group="a", split="train", variant=0, source_digest="0")
    clocks = [(-2.75, 180.5, 0.8), (0.5, None, 0.6), (None, None, None)]
    with shard_writer(tmp_path / "shard.arrow", MEDIA_SCHEMA) as writer:
        for values in clocks:
            writer.append(
                {**row, **dict(zip(("audio_offset_s", "audio_drift_ppm", "audio_confidence"), values, strict=True))}
            )
    say_recorders([tmp_path / "shard.arrow"])
    said = capsys.readouterr().err
    assert said.startswith("clean: 2 separate recorders")
    assert "offset up to 2.75 s, drift up to 180.5 ppm, confidence 0.6 or more" in said
