"""Cleaning recordings: what is kept, what is dropped, and why."""

from pathlib import Path
from typing import Any

import media_files
import numpy as np
import pytest
import soundfile
from corpus import PARAMS_FILE

from features.errors import StageError
from features.reasons import Reason
from pipelines.clean import Clean, find_copies
from pipelines.ingest import measure_file
from pipelines.media.audio import from_pcm16
from pipelines.media.spans import span
from pipelines.params import load_params
from pipelines.raw import FILE_COLUMNS, file_ref


@pytest.fixture
def clean(tmp_path: Path) -> Clean:
    return Clean(load_params(PARAMS_FILE).clean, str(tmp_path))


def raw(**columns: Any) -> dict[str, Any]:
    """A row of ingest's manifest; files by their name below the base folder."""
    files = {column: file_ref(columns[column]) for column in FILE_COLUMNS if column in columns}
    row = {"key": "rec", "group": "rec", "split": "train", "label": None, "text": None, "meta": None, "intervals": None}
    return {
        **row,
        **dict.fromkeys(FILE_COLUMNS),
        "copy_of": None,
        "made": None,
        "source_digest": "0",
        **columns,
        **files,
    }


def digested(row: dict[str, Any]) -> dict[str, Any]:
    """The row with each file's name for its digest."""
    return {**row, **{name: {**row[name], "digest": row[name]["uri"]} for name in FILE_COLUMNS if row[name]}}


def write_video(folder: Path, **script: Any) -> bytes:
    return media_files.write_recording(folder / "rec.mp4", media_files.Script(**script))


def test_clean_takes_frames_audio_and_cues_of_one_file(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path, cues=[(0.5, 1.0, "<i>it\u2019s  one</i>"), (1.0, 1.5, "two")])
    rows, rejects = clean(raw(video="rec.mp4"))
    assert rejects == []
    row = rows[0]
    assert row["frame_times_s"] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75], abs=0.041)
    assert row["frames_end_s"] == pytest.approx(2.0, abs=0.001)
    assert [(cue["start_s"], cue["end_s"], cue["text"]) for cue in row["cues"]] == [
        (0.5, 1.0, "it's one"),
        (1.0, 1.5, "two"),
    ]
    assert row["audio_rate_hz"] == 16000
    assert len(row["audio"]) / 2 / 16000 == pytest.approx(2.0, abs=0.1)
    assert row["recording"] == "rec"


def test_clean_prefers_files_of_their_own_to_the_videos_streams(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path, cues=[(0.5, 1.0, "embedded")])
    soundfile.write(tmp_path / "rec.wav", media_files.tone(1.0, 8000), 8000)
    (tmp_path / "rec.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nbeside\n")
    trusting = Clean(clean.params.model_copy(update={"sync": None}), clean.base)  # the two are of different events
    rows, _ = trusting(raw(video="rec.mp4", audio="rec.wav", transcript="rec.srt"))
    assert [cue["text"] for cue in rows[0]["cues"]] == ["beside"]
    assert len(from_pcm16(rows[0]["audio"])) == 16000


def test_clean_drops_silent_audio_with_its_reason_and_keeps_the_rest(clean: Clean, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "rec.wav", np.zeros(8000), 8000)
    (tmp_path / "rec.png").write_bytes(media_files.image_bytes(media_files.pixels(), "PNG"))
    rows, rejects = clean(raw(audio="rec.wav", image="rec.png"))
    assert rows[0]["audio"] is None
    assert rows[0]["image"] is not None
    assert [(reject.reason, reject.dropped) for reject in rejects] == [(Reason.SILENT, "audio")]


def test_clean_rejects_a_sample_with_nothing_left_once_with_the_first_reason(clean: Clean, tmp_path: Path) -> None:
    (tmp_path / "rec.mp4").write_text("not a film")
    (tmp_path / "rec.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nspoken\n")
    rows, rejects = clean(raw(video="rec.mp4", transcript="rec.srt"))
    assert rows == []
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec", Reason.UNDECODABLE, "sample")
    ]


def test_clean_rejects_a_truncated_video(clean: Clean, tmp_path: Path) -> None:
    whole = write_video(tmp_path, options={"movflags": "faststart"})
    (tmp_path / "rec.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    rows, rejects = clean(raw(video="rec.mp4"))
    assert rows == []
    assert rejects[0].reason == Reason.TRUNCATED


def test_clean_leaves_a_missing_audio_stream_absent_without_a_reject(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path, audio=())
    rows, rejects = clean(raw(video="rec.mp4"))
    assert rejects == []
    assert rows[0]["audio"] is None
    assert rows[0]["frames"]


def test_clean_drops_a_stream_that_the_file_has_not_so_many_of_and_keeps_the_rest(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path, cues=[(0.5, 1.0, "one")])
    params = clean.params.model_copy(
        update={
            "audio": clean.params.audio.model_copy(update={"stream": 1}),
            "transcript": clean.params.transcript.model_copy(update={"stream": 2}),
        }
    )
    (row,), rejects = Clean(params, clean.base)(raw(video="rec.mp4"))
    assert (row["audio"], row["cues"]) == (None, None)
    assert len(row["frames"]) == 8
    assert [(reject.reason, reject.dropped, reject.text) for reject in rejects] == [
        (Reason.NO_STREAM, "audio", "audio stream 1 was asked for; the file has 1, counted from 0"),
        (Reason.NO_STREAM, "text", "subtitle stream 2 was asked for; the file has 1, counted from 0"),
    ]
    video = clean.params.video.model_copy(update={"stream": 1})
    rows, rejects = Clean(params.model_copy(update={"video": video}), clean.base)(raw(video="rec.mp4"))
    assert rows == []
    assert [(reject.reason, reject.dropped) for reject in rejects] == [(Reason.NO_STREAM, "sample")]


def test_clean_rejects_an_exact_copy_and_names_the_original(clean: Clean) -> None:
    rows, rejects = clean(raw(video="rec.mp4", copy_of="first"))
    assert rows == []
    assert (rejects[0].reason, rejects[0].text) == (Reason.DUPLICATE, "the same content as 'first', which is kept")


def test_clean_rejects_every_sample_of_a_recording_that_is_lost(clean: Clean, tmp_path: Path) -> None:
    (tmp_path / "rec.mp4").write_text("not a film")
    rows, rejects = clean(raw(video="rec.mp4", intervals=[span(0, 1, key="a"), span(1, 2, key="b")]))
    assert rows == []
    assert [(reject.key, reject.dropped) for reject in rejects] == [("a", "sample"), ("b", "sample")]


def test_clean_cleans_the_text_of_every_interval(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path)
    texts = {"a": "it\u00e2\u20ac\u2122s\n one", "b": "x" * 10_001, "c": " ", "d": None}
    intervals = [{**span(0, 1, key=key), "text": text} for key, text in texts.items()]
    rows, rejects = clean(raw(video="rec.mp4", intervals=intervals))
    assert [(one["key"], one["text"]) for one in rows[0]["intervals"]] == [
        ("a", "it's one"),
        ("b", None),
        ("c", None),
        ("d", None),
    ]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [("b", Reason.TOO_LONG, "text")]


WHISPER = (
    '[{"start": 0.5, "end": 1.5, "text": "itâ€™s  one", "words": ['
    '{"word": " itâ€™s", "start": 0.5, "end": 0.75}, {"word": "\\u0007", "start": 0.75, "end": 1}, '
    '{"word": " one", "start": 1, "end": 1.5}, {"word": " 1"}]}]'
)


def test_clean_takes_words_with_their_times_and_says_which_have_none(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path)
    (tmp_path / "rec.json").write_text(WHISPER)
    rows, rejects = clean(raw(video="rec.mp4", transcript="rec.json"))
    assert [cue["text"] for cue in rows[0]["cues"]] == ["it's one"]
    assert [(one["start_s"], one["end_s"], one["text"]) for one in rows[0]["words"]] == [
        (0.5, 0.75, "it's"),
        (1, 1.5, "one"),
    ]
    assert [(reject.key, reject.stage, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec", "clean", Reason.BAD_INTERVAL, "part")
    ]


def test_clean_keeps_a_recording_as_it_is_whose_cues_are_out_of_order(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path)
    (tmp_path / "rec.srt").write_text("00:00:01,000 --> 00:00:02,000\ntwo\n\n00:00:00,000 --> 00:00:01,000\none\n")
    rows, rejects = clean(raw(video="rec.mp4", transcript="rec.srt"))
    assert [cue["text"] for cue in rows[0]["cues"]] == ["one", "two"]
    assert [(reject.reason, reject.dropped) for reject in rejects] == [(Reason.OUT_OF_ORDER, "nothing")]


def test_clean_takes_labels_of_the_transcript_unless_there_is_a_file_of_labels(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path)
    (tmp_path / "rec.csv").write_text("start_s,end_s,text,label\n0,1,hi,glad\n")
    (tmp_path / "rec.rttm").write_text(
        "SPEAKER rec 1 0 1 <NA> <NA> anna <NA> <NA>\nSPEAKER other 1 0 1 <NA> <NA> bob <NA> <NA>\n"
    )
    rows, rejects = clean(raw(video="rec.mp4", transcript="rec.csv"))
    assert [label["label"] for label in rows[0]["labels"]] == ["glad"]
    rows, more = clean(raw(video="rec.mp4", transcript="rec.csv", labels="rec.rttm"))
    assert [label["label"] for label in rows[0]["labels"]] == ["anna"]
    assert [cue["text"] for cue in rows[0]["cues"]] == ["hi"]
    assert rejects == more == []


def test_clean_drops_a_broken_transcript_and_labels_and_says_so(clean: Clean, tmp_path: Path) -> None:
    write_video(tmp_path)
    (tmp_path / "rec.srt").write_text("this is no transcript")
    (tmp_path / "rec.labels.csv").write_text("from,to,what\n0,1,x\n")
    rows, rejects = clean(raw(video="rec.mp4", transcript="rec.srt", labels="rec.labels.csv"))
    assert (rows[0]["cues"], rows[0]["labels"]) == (None, None)
    assert [(reject.reason, reject.dropped) for reject in rejects] == [
        (Reason.BAD_TRANSCRIPT, "text"),
        (Reason.BAD_LABELS, "part"),
    ]


def test_clean_fails_on_a_file_that_is_gone_since_ingest(clean: Clean) -> None:
    with pytest.raises(StageError, match=r"gone\.png of 'rec' was there at ingest and is gone: run 'dvc repro' again"):
        clean(raw(image="gone.png"))


@pytest.mark.parametrize("column", ["image", "audio", "video", "transcript"])
def test_clean_fails_on_a_file_that_changed_since_ingest(clean: Clean, tmp_path: Path, column: str) -> None:
    (tmp_path / "rec").write_text("before")
    row = raw(text="said")
    row[column] = measure_file(file_ref("rec"), str(tmp_path))
    (tmp_path / "rec").write_text("after")
    with pytest.raises(StageError, match="rec changed since ingest digested it: run 'dvc repro' again"):
        clean(row)


def test_clean_mends_text_and_rejects_what_is_too_long(clean: Clean) -> None:
    rows, _ = clean(raw(text="  caf\u00c3\u00a9\n au lait "))
    assert rows[0]["text"] == "caf\u00e9 au lait"
    rows, rejects = clean(raw(text="x" * 10001))
    assert rows == []
    assert rejects[0].reason == Reason.TOO_LONG


def test_copies_are_found_by_content_not_by_name() -> None:
    one, two, other = (digested(raw(video=name)) for name in ("a.mp4", "a.mp4", "b.mp4"))
    one["key"], two["key"], other["key"] = "one", "two", "other"
    assert find_copies([one, two, other]) == {"two": "one"}
    spoken, again = {**raw(text="hello"), "key": "a"}, {**raw(text="hello"), "key": "b"}
    assert find_copies([spoken, again]) == {"b": "a"}


def test_copies_with_the_same_intervals_are_found_whatever_their_samples_are_called() -> None:
    one = digested(raw(audio="a.wav", intervals=[span(0, 1, key="one/a", label="x"), span(1, 2, key="one/b")]))
    two = digested(raw(audio="a.wav", intervals=[span(0, 1, key="two/a"), span(1, 2, key="two/b")]))
    other = digested(raw(audio="a.wav", intervals=[span(2, 3, key="other/a")]))
    one["key"], two["key"], other["key"] = "one", "two", "other"
    assert find_copies([one, two, other]) == {"two": "one"}
