from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_encoding import assert_company_leaves_bytes, cosine, decoded, encode, load, pictures, vectors, video_of
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import pil_to_tensor
from transformers import (
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEImageProcessor,
    VideoMAEModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    VivitConfig,
    VivitImageProcessor,
    VivitModel,
)

from features.encoders.base import Video
from features.encoders.catalogue import make_encoder
from features.encoders.clips import Sampling, place_clips, prepare_clips, sample_at
from features.errors import EncoderError
from features.reasons import MediaError
from features.view import View


def frames_of(num_frames: int, rate_hz: float, start_s: float = 0.0) -> Video:
    times_T = start_s + np.arange(num_frames) / rate_hz
    return Video([b""] * num_frames, times_T, end_s=start_s + num_frames / rate_hz)


def test_place_clips_takes_every_frame_of_a_video_at_the_rate_of_the_clips():
    frames, times = place_clips(frames_of(8, 10.0, start_s=0.3), Sampling(4, 10.0, 0.4))
    assert frames.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert times == pytest.approx(np.array([[0.3, 0.7], [0.7, 1.1]]))


def test_place_clips_ends_the_last_clip_with_the_video():
    frames, times = place_clips(frames_of(10, 10.0), Sampling(4, 10.0, 0.4))
    assert frames.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert times[-1].tolist() == pytest.approx([0.6, 1.0])


def test_place_clips_begins_with_the_sample_where_a_frame_was_on_screen_before():
    frames, times = place_clips(Video([b""] * 3, np.array([-9.0, 0.2, 0.4]), end_s=0.6), Sampling(3, 10.0, 0.3))
    assert frames.tolist() == [[0, 0, 1], [1, 2, 2]]
    assert times == pytest.approx(np.array([[0.0, 0.3], [0.3, 0.6]]))


def test_place_clips_repeats_the_last_frame_of_a_short_video():
    frames, times = place_clips(frames_of(2, 10.0), Sampling(5, 10.0, 0.5))
    assert frames.tolist() == [[0, 1, 1, 1, 1]]
    assert times.tolist() == [[0.0, 0.2]]


def test_place_clips_takes_the_frame_nearest_in_time_and_of_two_the_earlier():
    video = Video([b""] * 4, np.array([0.0, 0.25, 0.9, 1.0]), end_s=1.5)
    frames, _ = place_clips(video, Sampling(6, 4.0, 9.0))
    assert frames.tolist() == [[0, 1, 1, 2, 3, 3]]
    frames, _ = place_clips(Video([b""] * 2, np.array([0.0, 0.5]), end_s=1.0), Sampling(4, 4.0, 9.0))
    assert frames.tolist() == [[0, 0, 1, 1]]


def test_sample_at_lays_clips_side_by_side_unless_told():
    assert sample_at(8, 4, 0.0) == Sampling(8, 4.0, 2.0)
    assert sample_at(8, 4, 1) == Sampling(8, 4.0, 1.0)


@given(
    gaps=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=30),
    start_s=st.floats(0.0, 5.0),
    before_s=st.sampled_from([0.0, 0.1, 20.0]),
    frames=st.integers(1, 9),
    rate_hz=st.floats(0.2, 30.0),
    hop_s=st.floats(0.1, 10.0),
)
def test_place_clips_covers_the_video_and_nothing_beyond(gaps, start_s, before_s, frames, rate_hz, hop_s):
    times_T = start_s + np.cumsum([0.0, *gaps[:-1]])
    end_s = float(times_T[-1] + gaps[-1])
    times_T[0] -= before_s  # on screen already when the sample begins
    video = Video([b""] * len(gaps), times_T, end_s)
    sampling = Sampling(frames, rate_hz, hop_s)
    frames_KF, times_K2 = place_clips(video, sampling)
    assert frames_KF.shape == (len(times_K2), frames)
    assert ((frames_KF >= 0) & (frames_KF < len(gaps))).all()
    assert (np.diff(frames_KF, axis=1) >= 0).all()
    assert times_K2[0, 0] == max(times_T[0], 0.0)
    assert (np.diff(times_K2[:, 0]) > 0).all()
    assert (times_K2[:, 1] <= video.end_s).all()
    assert times_K2[-1, 1] == pytest.approx(video.end_s) or times_K2[-1, 1] > video.end_s - 1e-5
    assert (np.diff(times_K2[:, 0]) <= hop_s + 1e-9).all()


def test_prepare_clips_decodes_a_frame_once_however_many_clips_it_is_in():
    images = pictures(6)
    seen = []

    def shape(image):
        seen.append(image.size)
        return np.zeros((1, 1, 1), np.float32)

    units = list(prepare_clips(shape, Sampling(4, 10.0, 0.1), video_of(images, 5.0)).units)
    assert [unit.shape for unit in units] == [(4, 1, 1, 1)] * 9
    assert seen == [decoded(image).size for image in images]


def test_prepare_clips_rejects_a_video_without_frames():
    with pytest.raises(MediaError, match="without frames"):
        prepare_clips(np.asarray, Sampling(4, 10.0, 0.4), Video([], np.empty(0), end_s=0.0))


@pytest.fixture(scope="module")
def r3d_weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("r3d") / "r3d_18.pth"
    torch.manual_seed(0)
    torch.save(get_model("r3d_18", weights=None).state_dict(), path)
    return str(path)


def test_torchvision_video_gives_what_the_model_gives_its_classifier(r3d_weights):
    encoder = load("torchvision-video:r3d_18", modality="video", weights=r3d_weights, frames=8, rate_hz=4)
    model = get_model("r3d_18", weights=None)
    model.load_state_dict(torch.load(r3d_weights, weights_only=True))
    model.fc = torch.nn.Identity()
    images = [*pictures(1), *pictures(1)] * 4
    clip_FCHW = torch.stack([pil_to_tensor(decoded(image)) for image in images])
    clip_CFHW = get_model_weights("r3d_18").DEFAULT.transforms()(clip_FCHW)
    (unit,) = encoder.prepare(video_of(images, 4.0)).units
    assert np.array_equal(unit.transpose(1, 0, 2, 3), clip_CFHW.numpy())
    with torch.inference_mode():
        expected = model.eval()(clip_CFHW[None]).numpy()
    assert encoder.about == {"size_px": 112, "frames": 8}
    assert encoder.dim == 512
    assert cosine(vectors(encoder, video_of(images, 4.0)), expected) > 0.9999


def test_torchvision_video_bytes_depend_on_the_video_alone(r3d_weights):
    encoder = load(
        "torchvision-video:r3d_18",
        modality="video",
        weights=r3d_weights,
        frames=2,
        rate_hz=4.0,
        hop_s=0.5,
        batch_size=2,
    )
    assert_company_leaves_bytes(encoder, [video_of(pictures(count, seed=count), 4.0) for count in (1, 3)])
    (outcome,) = encode(encoder, [video_of(pictures(3), 4.0)])
    assert outcome.times_T2.tolist() == [[0.0, 0.5], [0.25, 0.75]]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("mvit_v2_s", {"frames": 8}, "'frames' is 8; it takes clips of exactly 16"),
        ("s3d", {"frames": 8}, "'frames' is 8; it takes clips of at least 14"),
        ("r3d_18", {"rate_hz": 0}, "'rate_hz'.* is 0; it must be a number above 0"),
        ("r3d_18", {"hops": 1}, "did you mean 'hop_s'"),
    ],
)
def test_torchvision_video_refuses_clips_that_the_model_cannot_take(model, options, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(View(name="v", input="video", encoder=f"torchvision-video:{model}", options=options))


def test_torchvision_video_samples_as_its_weights_were_evaluated():
    make = partial(View, name="v", input="video")
    encoders = [make_encoder(make(encoder=f"torchvision-video:{name}")) for name in ("r3d_18", "mvit_v1_b", "swin3d_t")]
    assert [(encoder.settings["frames"], encoder.settings["rate_hz"]) for encoder in encoders] == [
        (16, 15.0),
        (16, 7.5),
        (32, 15.0),
    ]


SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "num_frames": 4,
}
VIDEO_MODELS = {
    "videomae": (VideoMAEModel, VideoMAEConfig(**SMALL, patch_size=16), VideoMAEImageProcessor),
    "timesformer": (TimesformerModel, TimesformerConfig(**SMALL, patch_size=16), VideoMAEImageProcessor),
    "vivit": (VivitModel, VivitConfig(**SMALL, tubelet_size=[2, 16, 16]), VivitImageProcessor),
}


def save_video_model(folder, kind):
    make, config, make_processor = VIDEO_MODELS[kind]
    torch.manual_seed(0)
    model = make(config).eval()
    model.save_pretrained(folder)
    processor = make_processor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return model, processor


@pytest.mark.parametrize("kind", VIDEO_MODELS)
def test_transformers_video_model_gives_a_vector_a_clip(tmp_path, kind):
    model, processor = save_video_model(tmp_path, kind)
    encoder = load(f"transformers:{tmp_path}", modality="video", rate_hz=10, batch_size=2)
    images = pictures(6)
    with torch.inference_mode():
        states = [
            model(**processor([decoded(image) for image in clip], return_tensors="pt")).last_hidden_state
            for clip in (images[:4], images[2:])
        ]
    expected = torch.cat([state.mean(dim=1) if kind == "videomae" else state[:, 0] for state in states])
    (outcome,) = encode(encoder, [video_of(images, 10.0)])
    assert outcome.times_T2 == pytest.approx(np.array([[0.0, 0.4], [0.2, 0.6]]))
    assert encoder.dim == 16
    assert encoder.about == {"dim": 16, "size_px": 32, "frames": 4}
    assert cosine(outcome.vectors_TD, expected.numpy()) > 0.9999
    assert_company_leaves_bytes(encoder, [video_of(images[:count], 10.0) for count in (1, 3, 6)])


def test_transformers_video_model_takes_no_images(tmp_path):
    save_video_model(tmp_path, "videomae")
    with pytest.raises(EncoderError, match="is a videomae, which takes videos, not image: change the view's input"):
        load(f"transformers:{tmp_path}")


def test_transformers_image_model_takes_no_clips(tmp_path):
    shape = {name: size for name, size in SMALL.items() if name != "num_frames"}
    ViTModel(ViTConfig(**shape, patch_size=16)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="is a vit, which takes single frames: leave out hop_s"):
        load(f"transformers:{tmp_path}", modality="video", hop_s=1.0)
