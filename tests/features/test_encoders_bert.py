"""Networks like BERT whose layers take fewer steps: what they give, and which stay as they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from features.encoders.bert import shorten_layers
from features.encoders.fusing import pack_linears

# The last text is padded, by what RoBERTa takes for padding too.
IDS_BT = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [5, 9, 8, 1, 1]])
MASK_BT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def tiny(kind: Callable[[Any], PreTrainedModel], config: type[PretrainedConfig], **options: Any) -> PreTrainedModel:
    """A model with random weights, among them those that begin as 0 or 1."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    model = kind(config(vocab_size=10, max_position_embeddings=12, **sizes, **options)).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, mean=0.1, std=0.4)
    return model


def shortened(model: PreTrainedModel, ids_BT: Tensor = IDS_BT, mask_BT: Tensor = MASK_BT) -> set[str]:
    """The types of the model's layers once it is shortened, when it must give what it gave before."""

    def run() -> Tensor:
        return model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state[mask_BT == 1]

    with torch.inference_mode():
        expected = run()
    shorten_layers(model, run)
    pack_linears(model, run)
    with torch.inference_mode():
        found = run()
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.999999
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    return {type(layer).__name__ for layer in model.modules()}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertModel, BertConfig),
        (CamembertModel, CamembertConfig),
        (RobertaModel, RobertaConfig),
        (XLMRobertaModel, XLMRobertaConfig),
    ],
)
def test_shorten_gives_what_transformers_gives(kind, config):
    names = shortened(tiny(kind, config))
    assert {"_Layers", "_PackedLinear"} <= names
    assert not {f"{kind.__name__.removesuffix('Model')}{part}" for part in ("Encoder", "Layer")} & names


@pytest.mark.parametrize("options", [{"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"layer_norm_eps": 0.1}])
def test_shorten_keeps_to_the_settings_of_the_model(options):
    assert "_Layers" in shortened(tiny(BertModel, BertConfig, **options))


def test_shorten_serves_texts_without_padding_and_of_one_token():
    assert "_Layers" in shortened(tiny(BertModel, BertConfig), IDS_BT[:2], MASK_BT[:2])
    assert "_Layers" in shortened(tiny(BertModel, BertConfig), IDS_BT[:1, :1], MASK_BT[:1, :1])


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        (BertModel, BertConfig, {"is_decoder": True}),
        (BertModel, BertConfig, {"attn_implementation": "eager"}),
        (MPNetModel, MPNetConfig, {}),
        (DistilBertModel, DistilBertConfig, {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}),
    ],
)
def test_shorten_leaves_other_networks(kind, config, options):
    assert "_Layers" not in shortened(tiny(kind, config, **options))


def test_shorten_leaves_a_network_that_then_gives_something_else(monkeypatch):
    forward = BertModel.forward

    def looking_inside(self: BertModel, **inputs: Tensor) -> Any:
        output = forward(self, **inputs)
        output.last_hidden_state += not hasattr(self.encoder, "layer")
        return output

    monkeypatch.setattr(BertModel, "forward", looking_inside)
    assert "_Layers" not in shortened(tiny(BertModel, BertConfig))
