"""The stages by name, as dvc.yaml calls them: where each one reads and writes.

Each imports its own module, so that training does not wait for Beam, nor ingest for torch.
"""

from collections.abc import Callable
from pathlib import Path

from pipelines.params import BeamParams, Params

DATA = Path("data")
REVS = DATA / "revs.json"
RESULTS = Path("results")
SEGMENTS = (DATA / "align", DATA / "augment")


def run_stage(name: str, params: Params, beam: BeamParams) -> None:
    """Run one stage in the current folder."""
    _STAGES[name](params, beam)


def _demo(params: Params, beam: BeamParams) -> None:
    from pipelines.demo import make_demo

    make_demo(params.demo, DATA / "demo", beam)


def _ingest(params: Params, beam: BeamParams) -> None:
    from pipelines.ingest import ingest

    ingest(params.ingest, DATA / "ingest", beam)


def _clean(params: Params, beam: BeamParams) -> None:
    from pipelines.clean import clean

    clean(params.clean, DATA / "ingest", DATA / "clean", beam)


def _align(params: Params, beam: BeamParams) -> None:
    from pipelines.align import align

    align(params.align, DATA / "clean", DATA / "align", beam)


def _augment(params: Params, beam: BeamParams) -> None:
    from pipelines.augment import augment

    augment(params.augment, DATA / "align", DATA / "augment", beam)


def _revs(params: Params, beam: BeamParams) -> None:
    from pipelines.revs import write_revs

    write_revs(params.embed, REVS)


def _embed(params: Params, beam: BeamParams) -> None:
    from pipelines.embed import embed

    embed(params.embed, SEGMENTS, DATA / "features", beam, ingest=DATA / "ingest")


def _pack(params: Params, beam: BeamParams) -> None:
    from pipelines.pack import pack

    pack(params.pack, SEGMENTS, DATA / "features", DATA / "packed", beam)


def _train(params: Params, beam: BeamParams) -> None:
    from fusion.config import TrainConfig
    from fusion.train import train

    train(TrainConfig(**params.train.model_dump()), DATA / "features", DATA / "models")


def _evaluate(params: Params, beam: BeamParams) -> None:
    from fusion.evaluate import evaluate

    evaluate(DATA / "features", DATA / "models", RESULTS)


_STAGES: dict[str, Callable[[Params, BeamParams], None]] = {
    "demo": _demo,
    "ingest": _ingest,
    "clean": _clean,
    "align": _align,
    "augment": _augment,
    "revs": _revs,
    "embed": _embed,
    "pack": _pack,
    "train": _train,
    "evaluate": _evaluate,
}
