"""Where a click and a flash of one instant are after decoding, through containers, codecs and what files do to time.

Beside the same file as libav alone reads it, with its own handling of edit lists. Run from a checkout whose environment
has the extra 'test': python benchmarks/media_time.py [--quick] [--json]
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from timed_media import SIDE_PX, Tape, clicks_s, flashes_s, with_edits, write_tape

from measures import Measure, at_most, show
from pipelines.media.container import AudioRequest, VideoRequest, decode_recording
from pipelines.media.tracks import AudioCollector

GOAL_MS = 5.0
RATE_HZ = 16_000
_FROM_A_KEY_FRAME_S = tuple(round(index / 25 - 0.33, 2) for index in range(84))


@dataclass(frozen=True)
class Case:
    """A file; shift_s: by how much it shows its events earlier than its writer's clock; None if it does not say."""

    name: str
    tape: Tape
    shift_s: float | None = 0.0
    change: Callable[[bytes], bytes] = bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one file of each container")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for measure in run(Path(folder), quick=options.quick):
            show(measure, as_json=options.json)


def run(folder: Path, *, quick: bool) -> Iterator[Measure]:
    cases = containers()
    for case in list({case.tape.format: case for case in cases}.values()) if quick else [*cases, *oddities()]:
        content = case.change(write_tape(folder / "tape", case.tape).read_bytes())
        yield from measure(case, content)


def containers() -> list[Case]:
    """Containers and codecs as they are usually met; sound at 44.1 kHz where the codec can."""
    both = {
        "mp4": [("libx264", "aac"), ("mpeg4", "aac"), ("libx264", "libmp3lame"), ("libx264", "libopus")],
        "mov": [("libx264", "pcm_s16le"), ("libx264", "aac"), ("libx264", "alac")],
        "matroska": [("libx264", audio) for audio in ("libopus", "vorbis", "libmp3lame", "flac", "aac", "ac3")],
        "webm": [("libvpx-vp9", "libopus"), ("libvpx", "libopus"), ("libvpx", "vorbis")],
        "ipod": [("", "aac")],
        "mp3": [("", "libmp3lame")],
        "ogg": [("", "libopus"), ("", "vorbis")],
        "flac": [("", "flac")],
        "wav": [("", "pcm_s16le")],
    }
    return [
        Case(
            " ".join(part for part in (format_, video, audio) if part),
            Tape(format=format_, video=video, audio=audio, rate_hz=48_000 if "opus" in audio else 44_100),
        )
        for format_, codecs in both.items()
        for video, audio in codecs
    ]


def oddities() -> Iterator[Case]:
    """What files do to time, and what they leave unsaid."""
    film = {"format": "mp4", "video": "libx264", "audio": "aac"}
    uneven_s = np.round(np.cumsum(np.random.default_rng(0).uniform(0.005, 0.2, 30)), 3).tolist()
    uneven = {"frame_times_s": uneven_s, "events_s": (uneven_s[7], uneven_s[15], uneven_s[22])}
    yield Case("mp4, pictures out of order", Tape(**film, b_frames=2))
    yield Case("mp4, sound from 0.3 s on", Tape(**film, audio_from_s=0.3))
    yield Case("matroska, sound from 0.3 s on", Tape(format="matroska", video="libx264", audio="aac", audio_from_s=0.3))
    yield Case("mp4, uneven frames", Tape(**film, **uneven))
    yield Case("matroska, uneven frames", Tape(format="matroska", video="libx264", audio="libopus", **uneven))
    cut = {"frame_times_s": _FROM_A_KEY_FRAME_S, "events_s": tuple(_FROM_A_KEY_FRAME_S[at] for at in (20, 40, 60))}
    yield Case("mp4, trimmed without encoding", Tape(**film, **cut, b_frames=2))
    yield Case("mp4, trimmed within a picture", Tape(**film), 0.33, _trimmed)
    yield Case("mp4, two stretches and a pause", Tape(**film, events_s=(0.52, 1.4)), None, _in_two)
    offsets = "frag_keyframe+delay_moov+negative_cts_offsets"
    yield Case("mp4, fragments", Tape(**film, options={"movflags": "frag_keyframe+delay_moov"}, b_frames=2))
    yield Case("mp4, fragments, negative offsets", Tape(**film, options={"movflags": offsets}, b_frames=2))
    yield Case("mp4, no edit lists", Tape(**film, options={"use_editlist": "0"}, b_frames=2), None)
    for format_, audio in (("mpegts", "aac"), ("flv", "aac"), ("avi", "libmp3lame")):
        video = "mpeg4" if format_ == "avi" else "libx264"
        yield Case(f"{format_} {video} {audio}", Tape(format=format_, video=video, audio=audio), None)
    yield Case("adts aac", Tape(format="adts", audio="aac"), None)
    yield Case("mp3 without a header", Tape(format="mp3", audio="libmp3lame", options={"write_xing": "0"}), None)


def _trimmed(content: bytes) -> bytes:
    return with_edits(with_edits(content, b"vide", [(2670, 29_700)]), b"soun", [(2670, 1024 + 15_840)])


def _in_two(content: bytes) -> bytes:
    content = with_edits(content, b"vide", [(1000, 0), (300, -1), (1500, 90_000)])
    return with_edits(content, b"soun", [(1000, 1024), (300, -1), (1500, 1024 + 48_000)])


def measure(case: Case, content: bytes) -> Iterator[Measure]:
    """Errors of the worst of the events. Without flashes, or where the file does not say when it begins, what is
    known is one of the two only."""
    heard_s, seen_s = by_plait(content)
    truth_s = None if case.shift_s is None else [time_s - case.shift_s for time_s in case.tape.events_s]
    if seen_s:
        yield at_most(f"{case.name}: click from flash", _worst_ms(heard_s, seen_s), "ms", GOAL_MS)
        yield Measure(f"{case.name}: click from flash, libav alone", _worst_ms(*by_libav(content)), "ms")
    if truth_s is not None:
        yield at_most(f"{case.name}: click from truth", _worst_ms(heard_s, truth_s), "ms", GOAL_MS)
    elif not seen_s:
        yield Measure(f"{case.name}: click from truth", _worst_ms(heard_s, case.tape.events_s), "ms")
    if seen_s and truth_s is not None:
        yield at_most(f"{case.name}: flash from truth", _worst_ms(seen_s, truth_s), "ms", GOAL_MS)


def by_plait(content: bytes) -> tuple[list[float], list[float]]:
    """When it clicks and when it flashes."""
    video = VideoRequest(rate_hz=1000, size_px=SIDE_PX)
    recording = decode_recording(content, audio=AudioRequest(rate_hz=RATE_HZ), video=video)
    return (
        clicks_s(recording.audio) if recording.audio else [],
        flashes_s(recording.video) if recording.video else [],
    )


def by_libav(content: bytes) -> tuple[list[float], list[float]]:
    """The same by libav's own times of frames."""
    sound = AudioCollector(RATE_HZ)
    seen_s: list[float] = []
    with av.open(io.BytesIO(content)) as container:
        for frame in container.decode():
            if isinstance(frame, av.AudioFrame):
                sound.add(frame, frame.time, frame.time)
            elif frame.to_ndarray(format="gray").mean() > 130:
                seen_s.append(frame.time)
    track = sound.finish()
    return clicks_s(track) if track else [], seen_s


def _worst_ms(times_s: Sequence[float], others_s: Sequence[float]) -> float:
    return float(np.abs(np.array(times_s) - np.array(others_s)).max()) * 1e3


if __name__ == "__main__":
    main()
