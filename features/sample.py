"""The sample: one row of the data set, with whatever modalities it has."""

from typing import Any

import pyarrow as pa

MODALITIES = ("text", "image", "audio", "video")
TIMED_TEXT = "timed_text"  # the text with the times of its words
SPLITS = ("train", "val", "test")

# A stretch of a recording's timeline with what is known of it: a transcript cue has text, an annotation a label,
# an interval of the user's manifest a key.
SPAN = pa.struct(
    [
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("key", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("meta", pa.string()),
    ]
)

# A word of a sample and when it is said.
WORD = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())])

_IDENTITY = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("recording", pa.string(), nullable=False),
    pa.field("group", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("label", pa.string()),
    pa.field("start_s", pa.float64()),  # on the recording's timeline; null for a sample without one
    pa.field("end_s", pa.float64()),
    pa.field("variant", pa.int32(), nullable=False),  # 0 is the original, 1.. are augmented copies
]
# How the clock of a separate recorder, the audio file beside a video, was found to relate to the recording's timeline;
# null where the audio is no such file. Its first sample sounds at audio_offset_s, one of its seconds lasts
# 1 + audio_drift_ppm * 1e-6 s (null: the recording is too short to tell), and confidence is from 0 to 1.
_CLOCK = [
    pa.field("audio_offset_s", pa.float64()),
    pa.field("audio_drift_ppm", pa.float64()),
    pa.field("audio_confidence", pa.float64()),
]
_ORIGIN = [
    pa.field("source_digest", pa.string(), nullable=False),  # of all raw content that its media were made of
    pa.field("meta", pa.string()),  # JSON: the user's other columns
]

# A sample with its media, as the stages between ingest and embed hand it on. A missing modality is null.
# Times inside are seconds on the recording's timeline, also after a cut. It does not say what the raw files are
# called, so that one that is renamed or moved changes nothing.
MEDIA_SCHEMA = pa.schema(
    [
        *_IDENTITY,
        pa.field("text", pa.string()),
        pa.field("image", pa.large_binary()),  # JPEG or PNG, RGB, upright
        pa.field("audio", pa.large_binary()),  # mono, signed 16 bit, little endian, audio_rate_hz
        pa.field("audio_rate_hz", pa.int32()),
        pa.field("audio_start_s", pa.float64()),
        *_CLOCK,
        pa.field("frames", pa.list_(pa.large_binary())),  # JPEG, RGB, upright
        # Presentation times, strictly rising; the first picture may have been on screen before start_s.
        pa.field("frame_times_s", pa.list_(pa.float64())),
        pa.field("frames_end_s", pa.float64()),  # when the last frame leaves the screen
        pa.field("intervals", pa.list_(SPAN)),
        pa.field("cues", pa.list_(SPAN)),
        pa.field("labels", pa.list_(SPAN)),
        pa.field("words", pa.list_(SPAN)),  # of the text, in order of time; null where their times are not known
        # Of the very bytes that an encoder will be given; null before the sample is cut.
        pa.field("digests", pa.struct([(source, pa.string()) for source in (*MODALITIES, TIMED_TEXT)])),
        *_ORIGIN,
    ]
)

# A sample as the feature store keeps it: everything but the media, with a presence flag a modality.
SAMPLE_SCHEMA = pa.schema(
    [
        *_IDENTITY,
        *(pa.field(f"has_{modality}", pa.bool_(), nullable=False) for modality in MODALITIES),
        pa.field("text", pa.string()),
        pa.field("words", pa.list_(WORD)),  # on the recording's timeline, within the sample's interval
        *_CLOCK,
        pa.field("source", pa.string(), nullable=False),  # URIs of the raw files, space separated
        *_ORIGIN,
    ]
)

# Fields that were added to the sample table since its first format; stores written before have none of them.
_LATER = ("words", *(field.name for field in _CLOCK))

# What was lost on the way. dropped is "sample", the name of a modality, "part" (the sample stays, shortened) or
# "nothing": a warning, with its numbers, about a recording that is kept as it is.
REJECT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("dropped", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

MediaRow = dict[str, Any]
"""One sample under MEDIA_SCHEMA as Python values."""


def media_row(**values: Any) -> MediaRow:
    """A row of MEDIA_SCHEMA with every field that is not given absent."""
    unknown = set(values) - set(MEDIA_SCHEMA.names)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no fields of a sample; it has {MEDIA_SCHEMA.names}")
    return {name: values.get(name) for name in MEDIA_SCHEMA.names}


def with_later_fields(samples: pa.Table) -> pa.Table:
    """A sample table with the fields that are younger than it, null in every row."""
    for name in _LATER:
        if name not in samples.schema.names:
            field = SAMPLE_SCHEMA.field(name)
            samples = samples.append_column(field, pa.nulls(len(samples), field.type))
    return samples


def modality_field(modality: str) -> str:
    """The field of MEDIA_SCHEMA that is null when the modality is absent."""
    if modality not in MODALITIES:
        raise ValueError(f"modality is {modality!r}; it must be one of {MODALITIES}")
    return "frames" if modality == "video" else modality
