from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import ConfigError
from pipelines.params import Params, load_params, parse_params
from pipelines.view_params import ReducedViewParams

REPOSITORY_PARAMS = Path(__file__).parents[2] / "params.yaml"


def _content(dotted: str, value: object) -> Any:
    """The repository's params.yaml, parsed, with one key set."""
    content = yaml.safe_load(REPOSITORY_PARAMS.read_text())
    *path, last = dotted.split(".")
    block = content
    for part in path:
        block = block[part]
    block[last] = value
    return content


def _error(content: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_params(content)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_load_params_reads_the_repositorys_file() -> None:
    params = load_params(REPOSITORY_PARAMS)

    assert params.ingest.split.val == 0.15
    assert params.embed.views["audio"].pooling == "mean_std"
    assert params.embed.views["text"].options == {}


def test_params_are_frozen() -> None:
    params = load_params(REPOSITORY_PARAMS)

    with pytest.raises(ValueError, match="frozen"):
        params.ingest.source = "elsewhere"


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("ingset", "ingest"),
        ("embed.shard_sample", "shard_samples"),
        ("ingest.split.tset", "test"),
        ("clean.video.ratehz", "rate_hz"),
        ("align.window.lenght_s", "length_s"),
        ("embed.views.image.poling", "pooling"),
    ],
)
def test_parse_params_names_the_nearest_key_to_an_unknown_one(unknown: str, nearest: str) -> None:
    text = _error(_content(unknown, 1))

    assert f"unknown key {unknown!r}" in text
    assert f"did you mean {nearest!r}?" in text


def test_parse_params_names_a_misspelt_key_before_the_one_that_is_missing_for_it() -> None:
    content = _content("ingest.sorce", "data")
    del content["ingest"]["source"]

    assert "unknown key 'ingest.sorce': did you mean 'source'?" in _error(content)


def test_parse_params_names_a_missing_key() -> None:
    content = _content("beam.threads", 2)
    del content["clean"]["audio"]["rate_hz"]

    assert "key 'clean.audio.rate_hz' is missing" in _error(content)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("beam.threads", "two", "beam.threads is 'two'"),
        ("beam.threads", True, "beam.threads is True"),
        ("demo.recordings", 0, "demo.recordings is 0"),
        ("ingest.max_reject_ratio", 1.5, "ingest.max_reject_ratio is 1.5"),
        ("embed.device", "gpu", "embed.device is 'gpu': Input should be 'auto', 'cpu' or 'cuda'"),
        ("embed.views.image.input", "picture", "embed.views.image.input is 'picture'"),
        ("clean.audio", None, "clean.audio is None"),
        ("clean.sync.min_confidence", 2, "clean.sync.min_confidence is 2"),
        ("clean.sync.max_ofset_s", 1.0, "unknown key 'clean.sync.max_ofset_s': did you mean 'max_offset_s'?"),
        ("clean.audio.loudness_lufs", float("-inf"), "clean.audio.loudness_lufs is -inf"),
        ("embed.views.image.options", {"scale": float("nan")}, "embed.views.image.options.scale.float is nan"),
        ("train.learning_rate", "1e-3", "write the exponent as 1.0e-3"),
        ("embed.views", {}, "embed.views is {}"),
        ("clean.audio.rate_hz", 1000, "clean.audio.rate_hz is 1000: Input should be greater than or equal to 4000"),
        ("align.by", "silence", "align.by is 'silence': Input should be 'auto', 'intervals'"),
        ("align.max_s", 0.15, "align.max_s is 0.15: it must be at least twice align.min_s, which is 0.1, or null"),
        ("align.window", {"length_s": 0.0}, "align.window.length_s is 0.0"),
        ("align.uncovered", "cut", "align.uncovered is 'cut': Input should be 'keep', 'drop' or 'shorten'"),
    ],
)
def test_parse_params_names_a_wrong_value(key: str, value: object, said: str) -> None:
    assert said in _error(_content(key, value))


@pytest.mark.parametrize("name", ["samples", "a/b", "..", "", "Image", "text_embedding", "concat"])
def test_parse_params_refuses_a_view_name_that_means_something_else(name: str) -> None:
    content = _content("embed.views", {name: {"input": "image", "encoder": "efficientnet-lite0"}})

    assert "a view's name is of a-z, 0-9 and _" in _error(content)


@pytest.mark.parametrize("name", ["sound_start_s", "sound_end_s"])
def test_parse_params_refuses_a_view_that_is_called_as_the_times_of_another(name: str) -> None:
    sound = {"input": "audio", "encoder": "logmel-mfcc"}
    taken = _content("embed.views", {name: sound, "sound": {**sound, "pooling": "sequence"}})

    assert f"view 'sound' keeps its intervals in a column '{name}': give view '{name}' another name" in _error(taken)
    parse_params(_content("embed.views", {name: sound, "sound": sound}))


_IMAGE = {"input": "image", "encoder": "efficientnet-lite0"}


def test_parse_params_takes_a_reduced_view_beside_the_one_it_is_made_from() -> None:
    steps = ["standardise", {"pca": 64, "whiten": True}, "l2"]

    views = parse_params(_content("embed.views", {"small": {"view": "image", "reduce": steps}, "image": _IMAGE})).embed

    assert views.views["small"] == ReducedViewParams(view="image", reduce=steps, dtype="float16")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"view": "imag", "reduce": ["l2"]}, "made from view 'imag', which is not declared, did you mean 'image'?"),
        ({"view": "small", "reduce": ["l2"]}, "made from view 'small', which is reduced itself: name one that has"),
        ({"view": "image", "reduce": ["l3"]}, "embed.views.small.reduce is ['l3']: unknown step 'l3': a step is"),
        ({"view": "image", "reduce": []}, "embed.views.small.reduce is []: there is no step"),
        ({"view": "image"}, "key 'embed.views.small.reduce' is missing"),
        ({"view": "image", "reduce": ["l2"], "pooling": "max"}, "unknown key 'embed.views.small.pooling'"),
        ({"view": "image", "reduce": ["l2"], "encoder": "x"}, "Known here: view, reduce, dtype"),
        ({**_IMAGE, "reduce": ["l2"]}, "unknown key 'embed.views.small.reduce'"),
    ],
)
def test_parse_params_refuses_a_reduced_view_that_cannot_be(declared: dict[str, object], said: str) -> None:
    assert said in _error(_content("embed.views", {"image": _IMAGE, "small": declared}))


def test_parse_params_takes_whole_numbers_for_seconds_and_hertz() -> None:
    assert parse_params(_content("clean.video.rate_hz", 4)).clean.video.rate_hz == 4.0


@pytest.mark.parametrize("content", [None, [], "ingest"])
def test_parse_params_refuses_what_is_no_mapping(content: object) -> None:
    assert "must be a mapping" in _error(content)


@pytest.mark.parametrize(
    "written",
    [b"ingest: {source: [1\nclean: 2\n", b"a:\n\t- b\n", "ingest: caf\u00e9\n".encode("latin-1")],
)
def test_load_params_says_in_one_line_that_it_is_no_yaml(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(written)

    with pytest.raises(ConfigError, match="is no valid YAML") as raised:
        load_params(path)
    assert "\n" not in str(raised.value)


def test_load_params_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml cannot be read .*run from the folder that holds it"):
        load_params(tmp_path / "params.yaml")


def test_params_survive_a_round_trip() -> None:
    params = load_params(REPOSITORY_PARAMS)

    assert Params.model_validate(params.model_dump()) == params


@pytest.mark.parametrize("digest", ["sha256", "0" * 63, "A" * 64])
def test_parse_params_refuses_what_is_no_digest_of_weights(digest: str) -> None:
    assert "'plait encoders NAME' tells it" in _error(_content("embed.views.text.weights_digest", digest))


def test_load_params_says_which_aligner_needs_a_model() -> None:
    assert _error(_content("align.forced", {"aligner": "ctc", "min_confidence": 0.1})).endswith(
        "aligner 'ctc' needs the key 'model', and 'pocketsphinx', which brings its own, has none"
    )
    assert "unknown key 'align.forced.min_confidnce': did you mean 'min_confidence'?" in _error(
        _content("align.forced", {"aligner": "ctc", "min_confidnce": 0.1})
    )
