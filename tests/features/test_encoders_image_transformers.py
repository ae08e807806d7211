"""Vision models of transformers that do not simply give a pooled output; the others are in test_encoders_image.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from image_encoding import assert_company_leaves_bytes, cosine, decoded, load, pictures, vectors
from transformers import (
    BatchFeature,
    CLIPConfig,
    CLIPModel,
    PoolFormerConfig,
    PoolFormerModel,
    PreTrainedModel,
    SegformerConfig,
    SegformerModel,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
)

SIDE_PX = 64
VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PICTURE = {"image_size": SIDE_PX, "patch_size": 16}


def save(folder: Path, model: PreTrainedModel) -> ViTImageProcessor:
    model.eval().save_pretrained(folder)
    processor = ViTImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX})
    processor.save_pretrained(folder)
    return processor


def shaped(processor: ViTImageProcessor, image: bytes) -> BatchFeature:
    return processor(decoded(image), return_tensors="pt")


def seen(encoder: str) -> np.ndarray:
    """float32 [image, dim] of three pictures, each with bytes of its own."""
    made = load(encoder)
    assert_company_leaves_bytes(made, pictures(3))
    return np.concatenate([vectors(made, image) for image in pictures(3)])


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (PoolFormerModel, PoolFormerConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 12])),
        (
            SegformerModel,
            SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 12], num_attention_heads=[1, 1, 2, 2]),
        ),
    ],
)
def test_transformers_model_of_rows_and_columns_gives_the_mean_over_them(tmp_path, model_class, config):
    torch.manual_seed(0)
    model = model_class(config)
    processor = save(tmp_path, model)
    with torch.inference_mode():
        hidden = [model(**shaped(processor, image)).last_hidden_state for image in pictures(3)]
    assert hidden[0].shape == (1, 12, 2, 2)
    expected = torch.cat(hidden).mean(dim=(2, 3)).numpy()
    assert cosine(seen(f"transformers:{tmp_path}"), expected) > 0.9999


def test_transformers_model_of_images_and_texts_gives_its_image_side(tmp_path):
    torch.manual_seed(0)
    texts = {**VIT, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = CLIPModel(CLIPConfig(vision_config={**VIT, **PICTURE}, text_config=texts, projection_dim=6))
    processor = save(tmp_path, model)
    with torch.inference_mode():
        expected = [model.get_image_features(**shaped(processor, image)).pooler_output for image in pictures(3)]
    assert expected[0].shape == (1, 6)
    assert cosine(seen(f"transformers:{tmp_path}"), torch.cat(expected).numpy()) > 0.9999


def test_transformers_masked_autoencoder_sees_the_whole_image(tmp_path):
    """As the library runs one, it hides three quarters of the patches, others each time."""
    torch.manual_seed(0)
    decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
    model = ViTMAEModel(ViTMAEConfig(**VIT, **PICTURE, **decoder, decoder_intermediate_size=16))
    processor = save(tmp_path, model)
    model.config.mask_ratio = 0.0
    with torch.inference_mode():  # patches in any order: attention does not mind
        expected = [model(**shaped(processor, image)).last_hidden_state.mean(dim=1) for image in pictures(3)]
    first, again = (seen(f"transformers:{tmp_path}") for _ in range(2))
    assert np.array_equal(first, again)
    assert cosine(first, torch.cat(expected).numpy()) > 0.9999
