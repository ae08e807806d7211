import numpy as np
import open_clip
import pytest
import torch
from text_encoding import encode, load

from features.encoders.catalogue import make_encoder
from features.errors import EncoderError
from features.view import View


def test_open_clip_folder_and_file_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"holds no open_clip_config\.json: save an open_clip model there"):
        load(f"open_clip:{tmp_path}")
    (tmp_path / "junk.pt").write_bytes(b"junk" * 100)
    with pytest.raises(EncoderError, match=r"^encoder 'open_clip:ViT-S-16-alt/.*' does not load: [^\n]*$"):
        load(f"open_clip:ViT-S-16-alt/{tmp_path / 'junk.pt'}")


def test_open_clip_folder_encodes_texts(clip_folder):
    encoder = load(f"open_clip:{clip_folder}")
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a digit"])
    with torch.inference_mode():
        expected = model.eval().encode_text(tokens).numpy()
    vectors = encode(encoder, ["a digit", "a voice"])
    assert encoder.dim == 12
    assert np.allclose(vectors[0], expected, atol=1e-6)
    assert vectors[0].tobytes() == encode(encoder, ["a digit"])[0].tobytes()
    assert len(encoder.definition()["weights_digest"]) >= 32


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B32/openai", "did you mean 'open_clip:ViT-B-32'"),
        ("ViT-B-32", "neither a weights file nor a pretrained tag.*openai"),
        ("ViT-B-32/none", "'none' is neither a weights file nor a pretrained tag.*openai"),
    ],
)
def test_open_clip_names_what_is_known(model, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(View(name="text", input="text", encoder=f"open_clip:{model}"))
