from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.synthesis.container import write_mp4
from pipelines.synthesis.picture import RATE_HZ, SIZE_PX
from pipelines.synthesis.speech import VOICE_RATE_HZ

NUM_FRAMES = 20


def frames() -> list[np.ndarray]:
    return [np.full((SIZE_PX * 3 // 2, SIZE_PX), 100 + number, np.uint8) for number in range(NUM_FRAMES)]


def click(at_s: float) -> np.ndarray:
    wave_T = np.zeros(NUM_FRAMES * VOICE_RATE_HZ // RATE_HZ, np.float32)
    start = round(at_s * VOICE_RATE_HZ)
    wave_T[start : start + 200] = 0.5
    return wave_T


def test_write_mp4_keeps_frames_and_times(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(), click(0.5))
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = list(container.decode(video=0))
    assert [frame.time for frame in decoded] == pytest.approx([number / RATE_HZ for number in range(NUM_FRAMES)])
    greys = [frame.to_ndarray()[:SIZE_PX].mean() for frame in decoded]
    assert greys == pytest.approx([100 + number for number in range(NUM_FRAMES)], abs=1.5)


def test_write_mp4_keeps_the_sound_in_its_place(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(), click(0.5))
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = list(container.decode(audio=0))
    wave_T = np.concatenate([frame.to_ndarray()[0] for frame in decoded])
    start_s = decoded[0].time + np.flatnonzero(np.abs(wave_T) > 0.25)[0] / VOICE_RATE_HZ
    assert start_s == pytest.approx(0.5, abs=0.002)


def test_write_mp4_without_wave_has_no_audio_stream(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(), None)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("index_first", [True, False])
def test_write_mp4_puts_the_index_where_asked(tmp_path: Path, index_first: bool) -> None:
    write_mp4(tmp_path / "a.mp4", frames(), click(0.5), index_first=index_first)
    content = (tmp_path / "a.mp4").read_bytes()
    assert (content.index(b"moov") < content.index(b"mdat")) is index_first


def test_write_mp4_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, frames(), click(0.3))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
