import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from building import build_store
from media_files import Script, image_bytes, pixels, write_recording
from PIL import Image

import features
from features.encoders.base import Audio
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.errors import EncoderError
from features.view import View
from flows.cli import main
from flows.query_file import read_query
from pipelines.media.audio import normalise_loudness

CLEAN = {
    "text": {"max_chars": 20},
    "image": {"size_px": 64},
    "audio": {"rate_hz": 16000, "loudness_lufs": -23.0, "silence_dbfs": -60.0, "stream": 0},
    "video": {"rate_hz": 4.0, "size_px": 64, "stream": 0},
    "transcript": {"stream": 0, "text_tier": None, "word_tier": None, "label_tier": None},
}


def tone(pitch_hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * pitch_hz * np.arange(16000) / 16000).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three tones at the loudness that clean gives them, and a view of images without an encoder."""
    folder = tmp_path_factory.mktemp("store")
    encoder = make_encoder(View(name="sound", input="audio", encoder="logmel-mfcc"))
    encoder.load("cpu")
    waves = [normalise_loudness(tone(pitch_hz), 16000, target_lufs=-23.0) for pitch_hz in (200, 500, 1200)]
    encoded = encode_samples(encoder, enumerate(Audio(wave_T, 16000) for wave_T in waves))
    views = {
        "sound": {"vectors": [found.vectors_TD.mean(axis=0) for _, found in encoded], "input": "audio"},
        "image": {"vectors": [np.array([row, 1.0]) for row in range(3)]},
    }
    build_store(folder, [{"key": f"tone{row}", "label": "low" if row == 0 else None} for row in range(3)], views)
    manifest = features.open(folder).manifest
    sound = replace(manifest.views["sound"], encoder="logmel-mfcc", definition=encoder.definition())
    replace(manifest, views={**manifest.views, "sound": sound}, steps={"clean": CLEAN}).save(folder)
    return folder


@pytest.fixture
def plait(folder, monkeypatch, capsys):
    """Runs plait nearest in this process and returns its exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "nearest", *arguments, "--store", str(folder)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_nearest_prints_a_table(plait):
    status, out, _ = plait("image", "--key", "tone0", "--where", "key <> 'tone1'")
    assert status == 0
    title, *rows = out.splitlines()
    assert title == "Nearest in image by cosine, exact"
    assert [row.split() for row in rows if row] == [
        ["key", "score", "label", "split"],
        ["tone2", "0.447214", "-", "train"],
    ]


def test_nearest_prints_json_with_how_it_was_found(plait, tmp_path, monkeypatch):
    found = json.loads(plait("image", "--key", "tone0", "--key", "tone2", "-k", "1", "--exact", "--json")[1])
    assert (found["view"], found["metric"], found["method"]) == ("image", "cosine", "exact")
    assert [(row["query"], row["key"]) for row in found["neighbours"]] == [("tone0", "tone1"), ("tone2", "tone1")]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = json.loads(plait("image", "--key", "tone0", "-k", "1", "--approximate", "--json")[1])
    assert (found["method"], found["recall_at_10"], found["recall_queries"]) == ("approximate", "1.0", "3")
    assert "recall@10 1.0 on 3 of its own embeddings" in plait("image", "--key", "tone0", "--approximate")[1]


def test_nearest_cleans_a_file_as_the_store_was_cleaned(plait, folder, tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, 0.9 * tone(500), 16000)
    found = json.loads(plait("sound", "--file", str(path), "-k", "1", "--json")[1])["neighbours"]
    assert found[0]["key"] == "tone1"
    assert found[0]["score"] > 0.999
    as_it_is = features.open(folder).nearest("sound", path, k=1)
    assert as_it_is["score"][0].as_py() < 0.995


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("image",), "ask with one of --key, --text and --file"),
        (("image", "--key", "tone0", "--text", "a"), "ask with one of --key, --text and --file"),
        (("sound", "--text", "a low tone"), "view 'sound' cannot be asked with text: its encoder 'logmel-mfcc' takes"),
        (("sound", "--file", "none.wav"), "No such file or directory: none.wav"),
        (("sound", "--file", "none.xyz"), "none.xyz is no text, image, audio or video by its suffix"),
        (("imag", "--key", "tone0"), "did you mean 'image'?"),
        (("imag", "--file", "none.wav"), "did you mean 'image'?"),
    ],
)
def test_nearest_prints_an_error_as_one_line(plait, arguments, message):
    status, out, err = plait(*arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_read_query_cleans_a_text(tmp_path):
    (tmp_path / "a.txt").write_text("  so   far\n")
    assert read_query(tmp_path / "a.txt", "text", {"clean": CLEAN}) == "so far"
    assert read_query(tmp_path / "a.txt", "text", {}) == "  so   far\n"
    (tmp_path / "long.txt").write_text("far " * 20)
    with pytest.raises(EncoderError, match=r"long\.txt cannot be used: text has 79 characters; max_chars is 20"):
        read_query(tmp_path / "long.txt", "text", {"clean": CLEAN})


def test_read_query_shrinks_an_image(tmp_path):
    (tmp_path / "a.png").write_bytes(image_bytes(pixels(200, 100), "PNG"))
    shown = Image.open(io.BytesIO(read_query(tmp_path / "a.png", "image", {"clean": CLEAN})))
    assert shown.size == (64, 32)


def test_read_query_takes_of_a_video_what_the_view_is_of(tmp_path):
    write_recording(tmp_path / "a.mp4", Script())
    video = read_query(tmp_path / "a.mp4", "video", {"clean": CLEAN})
    assert len(video.frames) == len(video.times_s) == 8
    assert video.end_s == pytest.approx(2)
    audio = read_query(tmp_path / "a.mp4", "audio", {"clean": CLEAN})
    assert (audio.rate_hz, len(audio.wave_T) / 16000) == (16000, pytest.approx(2, abs=0.1))
    write_recording(tmp_path / "silent.mp4", Script(audio=()))
    with pytest.raises(EncoderError, match=r"silent\.mp4 has no sound"):
        read_query(tmp_path / "silent.mp4", "audio", {"clean": CLEAN})
