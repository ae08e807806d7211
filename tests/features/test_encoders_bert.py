"""Networks like BERT whose layers take fewer steps: what they give, and which stay as they are."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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

from features.encoders import mkl
from features.encoders.bert import shorten_layers

# The last text is padded, by what RoBERTa takes for padding too.
IDS_BT = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [5, 9, 8, 1, 1]])
MASK_BT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def tiny(kind: Callable[[Any], PreTrainedModel], config: type[PretrainedConfig], **options: Any) -> PreTrainedModel:
    """A model with random weights, among them those that begin as 0 or 1."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    sizes["max_position_embeddings"] = 12
    model = kind(config(vocab_size=10, **(sizes | options))).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, mean=0.1, std=0.4)
    return model


def shortened(model: PreTrainedModel) -> nn.ModuleList:
    """Something that holds the model, when the model has been shortened if it can be."""
    holder = nn.ModuleList([model])
    shorten_layers(holder, lambda: states(holder)[MASK_BT == 1])
    return holder


def states(holder: nn.ModuleList, ids_BT: Tensor = IDS_BT, mask_BT: Tensor = MASK_BT) -> Tensor:
    with torch.inference_mode():
        return holder[0](input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state


def is_short(holder: nn.ModuleList) -> bool:
    return type(holder[0]).__name__ == "_Network"


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertModel, BertConfig),
        (CamembertModel, CamembertConfig),
        (RobertaModel, RobertaConfig),
        (XLMRobertaModel, XLMRobertaConfig),
    ],
)
@pytest.mark.parametrize("options", [{}, {"layer_norm_eps": 0.1}, {"attn_implementation": "eager"}])
@pytest.mark.parametrize("num_tokens", [1, 5])
def test_shorten_gives_what_transformers_gives(kind, config, options, num_tokens):
    model = tiny(kind, config, **options)
    ids_BT, mask_BT = IDS_BT[:, :num_tokens], MASK_BT[:, :num_tokens]
    expected = states(nn.ModuleList([model]), ids_BT, mask_BT)[mask_BT == 1]
    holder = shortened(model)
    found = states(holder, ids_BT, mask_BT)[mask_BT == 1]
    assert is_short(holder)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.999999
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 33), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_shorten_gives_a_text_the_same_bytes_in_any_company(num_tokens, num_texts, random):
    holder = short_one()
    ids_BT = torch.tensor([[random.randrange(10) for _ in range(num_tokens)] for _ in range(num_texts)])
    lengths_B = torch.tensor([random.randint(1, num_tokens) for _ in range(num_texts)])
    mask_BT = (torch.arange(num_tokens) < lengths_B[:, None]).long()
    together_BTD = states(holder, ids_BT, mask_BT)
    for place in range(num_texts):
        # Where a batch is not full its other places hold nothing, not even a token to look at.
        alone_BT, seen_BT = torch.zeros_like(ids_BT), torch.zeros_like(mask_BT)
        at = random.randrange(num_texts)
        alone_BT[at], seen_BT[at] = ids_BT[place], mask_BT[place]
        assert states(holder, alone_BT, seen_BT)[at].numpy().tobytes() == together_BTD[place].numpy().tobytes()


@cache
def short_one() -> nn.ModuleList:
    return shortened(tiny(BertModel, BertConfig, max_position_embeddings=40))


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_shorten_lets_no_number_that_is_not_finite_pass_for_one(number):
    model = tiny(BertModel, BertConfig)
    holder = shortened(model)
    assert is_short(holder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7] = number
    ids_BT = torch.tensor([[5, 6, 7], [5, 6, 9]])
    is_finite_BT = torch.isfinite(states(holder, ids_BT, torch.ones_like(ids_BT))).all(dim=2)
    assert is_finite_BT.tolist() == [[False, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        (BertModel, BertConfig, {"is_decoder": True}),
        (BertModel, BertConfig, {"hidden_act": "relu"}),
        (BertModel, BertConfig, {"hidden_act": "gelu_new"}),
        (MPNetModel, MPNetConfig, {}),
        (DistilBertModel, DistilBertConfig, {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}),
    ],
)
def test_shorten_leaves_other_networks(kind, config, options):
    assert not is_short(shortened(tiny(kind, config, **options)))


def test_shorten_leaves_a_network_that_then_gives_something_else(monkeypatch):
    forward = BertModel.forward

    def doing_more(self: BertModel, **inputs: Tensor) -> Any:
        output = forward(self, **inputs)
        output.last_hidden_state += 1
        return output

    monkeypatch.setattr(BertModel, "forward", doing_more)
    assert not is_short(shortened(tiny(BertModel, BertConfig)))


ASKED: dict[str, Callable[[Any], Tensor]] = {
    "pooled": lambda output: output.pooler_output,
    "pooled by name": lambda output: output["pooler_output"],
    "first states": lambda output: output["hidden_states"][0],
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_shorten_leaves_a_network_that_is_asked_for_more_than_last_states(asked):
    holder = nn.ModuleList([tiny(BertModel, BertConfig, output_hidden_states=True)])
    shorten_layers(holder, lambda: asked(holder[0](input_ids=IDS_BT, attention_mask=MASK_BT)))
    assert not is_short(holder)


def test_shorten_leaves_networks_where_there_is_no_mkl(monkeypatch, tmp_path):
    monkeypatch.setattr(mkl, "_LIBRARY", tmp_path / "libtorch_cpu.so")
    assert not is_short(shortened(tiny(BertModel, BertConfig)))
