"""The layers of networks that are built like BERT, with less around their products.

As its library runs it, a layer takes dozens of steps in Python for each of which a thread holds the interpreter's lock,
and multiplies three times by what one product gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from features.encoders.fusing import replace_alike

if TYPE_CHECKING:
    from torch import Tensor

# Of transformers; their layers differ in nothing but the name.
_ENCODERS = ("BertEncoder", "CamembertEncoder", "RobertaEncoder", "XLMRobertaEncoder")


def shorten_layers(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Let networks of this kind that a model holds take fewer steps.

    model: for inference; run: something that it gives, of a text with padding. It stays as it is if it then gives
    something else.
    """
    layers: dict[nn.Module, nn.Module] = {part: _Layers(part) for part in model.modules() if _is_like_bert(part)}
    if layers:
        with torch.no_grad():
            replace_alike(model, layers, run(), run)


def _is_like_bert(part: nn.Module) -> bool:
    kind = type(part)
    if kind.__name__ not in _ENCODERS or not kind.__module__.startswith("transformers.models."):
        return False
    config: Any = part.config
    return config._attn_implementation == "sdpa" and not config.is_decoder


class _Layers(nn.Module):
    """What stands in an encoder's place; it takes its arguments, of which only the first two matter here."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(layer) for layer in encoder.layer)

    def forward(self, units_BTD: Tensor, attention_mask: Tensor | None = None, **_: object) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        for layer in self.layers:
            units_BTD = layer(units_BTD, attention_mask)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=units_BTD)


class _Layer(nn.Module):
    """One of them. Legend: B text, T token, D number, H head."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention.self
        self.num_heads, self.scale = attention.num_attention_heads, attention.scaling
        self.looks = _joined([attention.query, attention.key, attention.value])
        self.gathers, self.first_norm = layer.attention.output.dense, layer.attention.output.LayerNorm
        self.widens, self.activation = layer.intermediate.dense, layer.intermediate.intermediate_act_fn
        self.narrows, self.second_norm = layer.output.dense, layer.output.LayerNorm

    def forward(self, units_BTD: Tensor, mask: Tensor | None) -> Tensor:
        looks_3BHTD = self.looks(units_BTD).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        queries_BHTD, keys_BHTD, values_BHTD = looks_3BHTD.unbind()
        seen_BHTD = scaled_dot_product_attention(queries_BHTD, keys_BHTD, values_BHTD, mask, scale=self.scale)
        units_BTD = self.first_norm(self.gathers(seen_BHTD.transpose(1, 2).flatten(2)).add_(units_BTD))
        between_BTD = self.activation(self.widens(units_BTD))
        narrowed_BTD: Tensor = self.second_norm(self.narrows(between_BTD).add_(units_BTD))
        return narrowed_BTD


def _joined(linears: list[nn.Linear]) -> nn.Linear:
    """One layer that gives what several give, side by side."""
    joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
    for name in ("weight", "bias"):
        setattr(joined, name, nn.Parameter(torch.cat([getattr(linear, name).detach() for linear in linears])))
    return joined.eval()
