"""params.yaml, read once: one frozen block a stage."""

import difflib
import re
import reprlib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from features.errors import ConfigError
from pipelines.blocks import Block, Count, Milliseconds, NotNegative, Positive, Ratio
from pipelines.view_params import VIEW_KINDS, Views


class BeamParams(Block):
    """Where the stages run: any Beam runner by name, its options as on a command line, shards at work per worker."""

    runner: str
    options: list[str]
    threads: Count


class DemoParams(Block):
    """The generated recordings; probabilities and levels are described in params.yaml."""

    recordings: Count
    segments: Count
    seed: int
    misheard: Ratio
    missing: Ratio
    filler: Ratio
    picture_noise: Annotated[float, Field(ge=0)]
    voice_snr_db: float
    broken: bool


class SplitParams(Block):
    """Shares of the groups that become val and test; the rest is train."""

    val: Ratio
    test: Ratio
    seed: int


class IngestParams(Block):
    """Where the raw recordings are and how their columns are called."""

    source: str
    columns: dict[str, str]
    split: SplitParams
    max_reject_ratio: Ratio


class CleanTextParams(Block):
    """Limits of a text in characters."""

    max_chars: Count


class CleanImageParams(Block):
    """Longest side of a cleaned image."""

    size_px: Count


class CleanAudioParams(Block):
    """Cleaned audio: its rate, its loudness, below which peak it counts as silent, which stream of the file."""

    rate_hz: Annotated[int, Field(ge=4000)]  # loudness is measured by a filter at 1,500 Hz
    loudness_lufs: Annotated[float, Field(lt=0)]
    silence_dbfs: Annotated[float, Field(lt=0)]
    stream: Annotated[int, Field(ge=0)]


class CleanVideoParams(Block):
    """Cleaned video: frames a second at most, longest side, which stream of the file."""

    rate_hz: Positive
    size_px: Count
    stream: Annotated[int, Field(ge=0)]


class CleanTranscriptParams(Block):
    """Which embedded subtitle stream is the transcript when no transcript file is given, and which tiers of a TextGrid
    or an ELAN file are its text, words and labels: names or patterns as "*@anna"; None leaves it to how they are
    called."""

    stream: Annotated[int, Field(ge=0)]
    text_tier: str | None
    word_tier: str | None
    label_tier: str | None


class CleanSyncParams(Block):
    """How far the clock of a separate recorder may lie off the video's, and how sure the relation must be."""

    max_offset_s: Positive = 600.0
    max_drift_ppm: Annotated[float, Field(ge=0, le=1000)] = 250.0
    min_confidence: Ratio = 0.3


class CleanParams(Block):
    """How one file of each modality is made uniform, and how many recordings are one unit of work."""

    text: CleanTextParams
    image: CleanImageParams
    audio: CleanAudioParams
    video: CleanVideoParams
    transcript: CleanTranscriptParams
    sync: CleanSyncParams | None = CleanSyncParams()
    shard_samples: Count
    max_reject_ratio: Ratio


class WindowParams(Block):
    """Windows of one length; hop_s: from start to start, the length if null; last: of one that the end cuts short."""

    length_s: Milliseconds = 10.0
    hop_s: Milliseconds | None = None
    last: Literal["keep", "drop"] = "keep"


class VoiceParams(Block):
    """What is taken for speech: how likely it must be, which pauses it may have, how long it must last."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    max_gap_s: NotNegative = 0.3
    min_s: NotNegative = 0.25


class ShotParams(Block):
    """What is taken for a cut: the mean change of a pixel, 0 to 255, and how long a shot must last."""

    threshold: Positive = 27.0
    min_s: NotNegative = 0.5


class WordParams(Block):
    """Which words belong together: up to a pause of more than max_gap_s, or also up to the end of a sentence."""

    max_gap_s: NotNegative = 0.5
    sentences: bool = False


class ForcedParams(Block):
    """What looks for the words of a transcript without times in the sound, and below which confidence it is not
    believed; model: of the aligner "ctc"."""

    aligner: Literal["pocketsphinx", "ctc"]
    model: str | None = None
    min_confidence: Ratio

    @model_validator(mode="after")
    def _fits(self) -> "ForcedParams":
        if (self.model is None) == (self.aligner == "ctc"):
            raise ValueError("aligner 'ctc' needs the key 'model', and 'pocketsphinx', which brings its own, has none")
        return self


class AlignParams(Block):
    """Which words are looked for, what recordings are cut by, and what a segment must be."""

    forced: ForcedParams | None = None
    by: Literal["auto", "intervals", "cues", "labels", "words", "voice", "shots", "window", "whole"] = "auto"
    window: WindowParams = WindowParams()
    voice: VoiceParams = VoiceParams()
    shots: ShotParams = ShotParams()
    words: WordParams = WordParams()
    min_s: Milliseconds
    max_s: Milliseconds | None = None
    pad_s: NotNegative = 0.0
    uncovered: Literal["keep", "drop", "shorten"] = "keep"
    max_reject_ratio: Ratio

    @field_validator("max_s")
    @classmethod
    def _leaves_room_to_divide(cls, max_s: float | None, known: ValidationInfo) -> float | None:
        min_s = known.data.get("min_s")
        if max_s is not None and min_s is not None and max_s < 2 * min_s:
            raise ValueError(f"it must be at least twice align.min_s, which is {min_s:g}, or null for no limit")
        return max_s


class AugmentParams(Block):
    """Seeded variants of each training sample; the ops of each modality with their strengths."""

    copies: Annotated[int, Field(ge=0)]
    seed: int
    text_drop: Ratio
    text_swap: Ratio
    image_crop: Ratio
    image_light: Ratio
    audio_gain_db: Annotated[float, Field(ge=0)]
    audio_snr_db: float
    max_reject_ratio: Ratio


class EmbedParams(Block):
    """The views, where they are computed, and the size of a feature shard."""

    device: Literal["auto", "cpu", "cuda"]
    shard_samples: Count
    views: Views
    max_reject_ratio: Ratio


class PackParams(Block):
    """Samples in one WebDataset shard."""

    shard_samples: Count


class TrainParams(Block):
    """The fusion models and how they are trained."""

    seed: int
    hidden: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    patience: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]


class Params(Block):
    """All of params.yaml."""

    beam: BeamParams
    demo: DemoParams
    ingest: IngestParams
    clean: CleanParams
    align: AlignParams
    augment: AugmentParams
    embed: EmbedParams
    pack: PackParams
    train: TrainParams


def load_params(path: Path) -> Params:
    """Read params.yaml. Raises ConfigError with one line that names the key, its value, the rule and the cure."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): run from the folder that holds it") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    return parse_params(content, str(path))


def parse_params(content: Any, where: str = "params.yaml") -> Params:
    """Check a parsed params.yaml and freeze it."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must be a mapping of stages to their parameters, not {type(content).__name__}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_one_line(error)}") from error


def _one_line(error: ValidationError) -> str:
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")  # a typo hides behind "missing"
    path = [str(part) for part in first["loc"]]
    name = ".".join(part for part in path if part not in VIEW_KINDS)
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.0)
        return f"unknown key {name!r}: did you mean {near[0]!r}? Known here: {', '.join(known)}"
    if first["type"] == "missing":
        return f"key {name!r} is missing: add it (the repository's params.yaml shows every key)"
    rule = first["msg"].removeprefix("Value error, ")
    cure = ": write the exponent as 1.0e-3" if _is_yaml_text(first) else ""
    return f"{name} is {reprlib.repr(first['input'])}: {rule}{cure}"


def _is_yaml_text(first: Any) -> bool:
    """Whether it is a number that YAML takes for text, as it does 1e-3."""
    return first["type"] == "float_type" and bool(re.fullmatch(r"[-+]?[0-9.]+e[-+]?[0-9]+", str(first["input"])))


def _known_keys(path: list[str]) -> list[str]:
    block: Any = Params
    for part in path:
        if part in VIEW_KINDS:
            block = VIEW_KINDS[part]
        elif isinstance(block, type) and issubclass(block, BaseModel):
            kind: Any = block.model_fields[part].annotation
            block = kind.__args__[0] if isinstance(kind, UnionType) else kind  # a block that may be null
        else:  # dict[str, Block]: any name leads to the block
            block = block.__args__[1]
        if isinstance(block, UnionType):  # a block or null
            block = block.__args__[0]
    return list(block.model_fields)
