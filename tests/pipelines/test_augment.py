"""Variants of training samples."""

import media_files
import pytest
from test_align import recording

from features.reasons import Reason
from pipelines.augment import Augment
from pipelines.digests import sample_digests
from pipelines.media.audio import to_pcm16
from pipelines.params import AugmentParams

PARAMS = AugmentParams(
    copies=2,
    seed=0,
    text_drop=0.2,
    text_swap=0.5,
    image_crop=0.2,
    image_light=0.3,
    audio_gain_db=6.0,
    audio_snr_db=10.0,
    max_reject_ratio=0.2,
)


@pytest.fixture
def sample() -> dict[str, object]:
    image = media_files.image_bytes(media_files.pixels(), "PNG")
    row = recording(
        key="rec/0001",
        text="the quick brown fox jumps over the lazy dog",
        image=image,
        audio=to_pcm16(media_files.tone(1.0, 16000)),
        frames=[image, image],
        frame_times_s=[0.0, 0.5],
        frames_end_s=1.0,
        start_s=0.0,
        end_s=1.0,
    )
    return {**row, "digests": sample_digests(row)}


def test_augment_makes_copies_that_differ_in_every_modality(sample: dict[str, object]) -> None:
    rows, rejects = Augment(PARAMS)(sample)
    assert rejects == []
    assert [(row["key"], row["variant"]) for row in rows] == [("rec/0001~1", 1), ("rec/0001~2", 2)]
    for field in ("text", "image", "audio", "frames"):
        assert len({str(row[field]) for row in (sample, *rows)}) == 3, field
    for field in ("recording", "group", "split", "label", "start_s", "end_s", "frame_times_s", "source_digest"):
        assert all(row[field] == sample[field] for row in rows), field
    assert len({row["digests"]["audio"] for row in rows}) == 2


def test_augment_depends_on_seed_and_content_alone(sample: dict[str, object]) -> None:
    first, _ = Augment(PARAMS)(sample)
    assert Augment(PARAMS)(sample)[0] == first
    more, _ = Augment(PARAMS.model_copy(update={"copies": 3}))(sample)
    assert more[:2] == first
    other_seed, _ = Augment(PARAMS.model_copy(update={"seed": 1}))(sample)
    other_text = {**sample, "text": "another one"}
    other_content, _ = Augment(PARAMS)({**other_text, "digests": sample_digests(other_text)})
    for other in (other_seed, other_content):
        assert other[0]["audio"] != first[0]["audio"]
    renamed, _ = Augment(PARAMS)({**sample, "key": "other/0002", "recording": "other", "split": "train", "label": "x"})
    assert [{**row, **{name: sample[name] for name in ("recording", "label")}} for row in renamed] == [
        {**row, "key": f"other/0002~{row['variant']}"} for row in first
    ]


def test_augment_leaves_absent_modalities_absent(sample: dict[str, object]) -> None:
    rows, _ = Augment(PARAMS)({**sample, "text": None, "image": None, "frames": None})
    assert all(row["text"] is row["image"] is row["frames"] is None for row in rows)
    assert all(row["digests"]["video"] is None for row in rows)


def test_augment_rejects_a_copy_whose_image_cannot_be_decoded(sample: dict[str, object]) -> None:
    rows, rejects = Augment(PARAMS)({**sample, "image": b"no image"})
    assert rows == []
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [
        ("rec/0001~1", Reason.UNDECODABLE, "sample"),
        ("rec/0001~2", Reason.UNDECODABLE, "sample"),
    ]
