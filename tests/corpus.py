"""A small corpus of real media files, and the stages run over it."""

import hashlib
from pathlib import Path

import media_files
import soundfile

from pipelines.align import align
from pipelines.augment import augment
from pipelines.clean import clean
from pipelines.ingest import ingest
from pipelines.params import Params, load_params

PARAMS_FILE = Path(__file__).parent.parent / "params.yaml"
NUM_RECORDINGS = 6


def write_corpus(folder: Path) -> None:
    """NUM_RECORDINGS videos of two seconds with two cues and two labels each, and a spoken image without video."""
    folder.mkdir(parents=True)
    for index in range(NUM_RECORDINGS):
        stem = folder / f"rec{index}"
        moment_s = 0.2 + 0.3 * index
        script = media_files.Script(flashes_s=[moment_s], clicks_s=[moment_s])
        media_files.write_recording(stem.with_suffix(".mp4"), script)
        words = ("one", "two") if index % 2 else ("um one", "too")
        stem.with_suffix(".srt").write_text(
            f"1\n00:00:00,000 --> 00:00:01,000\n{words[0]}\n\n2\n00:00:01,000 --> 00:00:02,000\n{words[1]}\n"
        )
        (folder / f"rec{index}.labels.csv").write_text("start_s,end_s,label\n0,1,1\n1,2,2\n")
    (folder / "still.png").write_bytes(media_files.image_bytes(media_files.pixels(seed=9), "PNG"))
    soundfile.write(folder / "still.wav", media_files.tone(0.5, 8000), 8000)


def small_params(source: Path, **changes: object) -> Params:
    """The repository's parameters over another source, with small shards and images.

    changes: by dotted name with __ for the dot, as embed__device="cpu".
    """
    params = load_params(PARAMS_FILE).model_dump()
    params["ingest"]["source"] = str(source)
    params["clean"]["shard_samples"] = 2
    params["embed"]["shard_samples"] = 4
    params["embed"]["device"] = "cpu"
    params["pack"]["shard_samples"] = 4
    for name in ("image", "video"):
        params["embed"]["views"][name]["options"] = {"size_px": 32}
    for name, value in changes.items():
        *path, last = name.split("__")
        block = params
        for part in path:
            block = block[part]
        block[last] = value
    return Params.model_validate(params)


def run_after_ingest(params: Params, data: Path) -> None:
    """Run clean, align and augment over what ingest left in the folder data."""
    clean(params.clean, data / "ingest", data / "clean", params.beam)
    align(params.align, data / "clean", data / "align", params.beam)
    augment(params.augment, data / "align", data / "augment", params.beam)


def run_to_pack(params: Params, data: Path) -> None:
    """Run every stage of media work into the folder data."""
    from pipelines.embed import embed  # brings torch, which the stages before do without
    from pipelines.pack import pack

    segments = [data / "align", data / "augment"]
    ingest(params.ingest, data / "ingest", params.beam)
    run_after_ingest(params, data)
    embed(params.embed, segments, data / "features", params.beam, ingest=data / "ingest")
    pack(params.pack, segments, data / "features", data / "packed", params.beam)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below the folder by its relative path, without locks."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
