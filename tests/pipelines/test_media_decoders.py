"""The decoders on packets that no muxer would write; the usual ones are tested with the container."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from media_files import Script, write_recording

from features.reasons import MediaError, Reason
from pipelines.media.decoders import Clock, FrameDecoder
from pipelines.media.tracks import AudioCollector, AudioTrack


@pytest.fixture
def packets(tmp_path: Path) -> Iterator[list[av.Packet]]:
    path = tmp_path / "sound.mkv"
    write_recording(path, Script(format="matroska", frame_times_s=(), audio=[(0, 2)], audio_codec="pcm_s16le"))
    with av.open(str(path)) as container:
        yield list(container.demux())  # libav frees the stream with its container


def decode(packets: list[av.Packet], declared_end_s: float | None) -> AudioTrack | None:
    decoder = FrameDecoder(packets[0].stream, AudioCollector(16_000), Clock())
    for packet in packets:
        decoder.feed(packet)
    return decoder.finish(declared_end_s)


def test_frame_decoder_tolerates_an_end_that_is_near(packets: list[av.Packet]) -> None:
    track = decode(packets, 2.2)
    assert track is not None
    assert len(track.wave_T) / track.rate_hz == pytest.approx(2.0, abs=0.03)


def test_frame_decoder_rejects_an_early_end(packets: list[av.Packet]) -> None:
    with pytest.raises(MediaError, match=r"decodes up to 1\.98 s, the file declares 2\.40 s") as caught:
        decode(packets, 2.4)
    assert caught.value.reason == Reason.TRUNCATED


def test_frame_decoder_rejects_a_clock_that_starts_anew(packets: list[av.Packet]) -> None:
    for packet in packets[-5:-1]:
        packet.pts = packet.dts = 0
    with pytest.raises(MediaError, match="jumps back in time") as caught:
        decode(packets, None)
    assert caught.value.reason == Reason.UNDECODABLE


def test_frame_decoder_continues_without_timestamps(packets: list[av.Packet]) -> None:
    for packet in packets[1:]:
        packet.pts = packet.dts = None
    track = decode(packets, 2.0)
    assert track is not None
    assert len(track.wave_T) / track.rate_hz == pytest.approx(2.0, abs=0.03)
