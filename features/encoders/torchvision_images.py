"""Images to one vector each, by any classifier of images in torchvision, up to its last layer."""

from __future__ import annotations

from functools import partial

from features.encoders.base import Encoder
from features.encoders.images import as_array, prepare_images
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.torchvision_weights import Listed, look_up
from features.view import View


def make_images(model: str, view: View) -> Encoder:
    """Encoder of images and frames, shaped by the transform that torchvision lists with the weights."""
    options = read_options(view, batch_size=8, weights="")
    listed = look_up(model, view.encoder, file=options["weights"], of_videos=False)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"image", "video"}),
        batch_size=options["batch_size"],
        settings={"entry": listed.entry},
        weights_digest=listed.digest,
        modules=("torchvision_images",),
        libraries=("torchvision", "pillow"),
        bring=partial(_bring, listed),
        about={"size_px": listed.weights.transforms().crop_size[0]},
    )


def _bring(listed: Listed, device: str) -> Network:
    body, dim = listed.bring_body()
    transform = listed.weights.transforms()
    prepare = partial(prepare_images, as_array(transform))
    (size_px,) = transform.crop_size
    return Network(prepare, settle(body, device), dim, body, image_CHW=(3, size_px, size_px))
