from typing import Any

import pytest

from features.view import StoredView, View

VIEW: dict[str, Any] = {"name": "image", "input": "image", "encoder": "lite"}
ENCODER = {"name": "lite", "weights_digest": "abc", "code": "1", "libraries": {"timm": "1.0"}}


# A stored row is reused while this value stays: it may change only with what it is the hash of.
def test_view_rev_is_pinned() -> None:
    assert View(**VIEW).rev(ENCODER) == "5c2c54c002ff257a57a5daa02b684f5b"


@pytest.mark.parametrize(
    "changed",
    [
        {"input": "video"},
        {"encoder": "heavy"},
        {"pooling": "max"},
        {"dtype": "float32"},
        {"code_version": "2"},
    ],
)
def test_view_rev_changes_with_what_is_declared(changed: dict[str, Any]) -> None:
    assert View(**{**VIEW, **changed}).rev(ENCODER) != View(**VIEW).rev(ENCODER)


@pytest.mark.parametrize("changed", [{"weights_digest": "abd"}, {"code": "2"}, {"libraries": {"timm": "1.1"}}])
def test_view_rev_changes_with_the_encoder(changed: dict[str, Any]) -> None:
    assert View(**VIEW).rev({**ENCODER, **changed}) != View(**VIEW).rev(ENCODER)


def test_view_rev_ignores_the_name_and_options_that_leave_the_encoder_as_it_is() -> None:
    one = View(**VIEW)
    two = View(**{**VIEW, "name": "picture", "options": {"batch_size": 8}})

    assert one.rev(ENCODER) == two.rev(ENCODER)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"input": "smell"}, "view 'image': input is 'smell'; it must be one of text, image, audio, video"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"dtype": "float64"}, "dtype is 'float64'"),
    ],
)
def test_view_refuses_unknown_values(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        View(**{**VIEW, **changed})


@pytest.mark.parametrize(("pooling", "shape"), [("mean", (8,)), ("mean_std", (8,)), ("sequence", (None, 8))])
def test_stored_view_tells_its_shape(pooling: str, shape: tuple[int | None, ...]) -> None:
    view = StoredView(
        name="image",
        rev="rev",
        input="image",
        encoder="lite",
        pooling=pooling,
        dtype="float16",
        dim=8,
        code_version="1",
        weights_digest=None,
        definition={},
        files={},
        digests={},
        num_present=0,
    )

    assert view.shape == shape
