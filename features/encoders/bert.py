"""The layers of networks that are built like BERT, run by loops of ours around MKL's products.

As its library runs it, a layer takes dozens of steps in Python for each of which a thread holds the interpreter's lock,
multiplies three times by what one product gives, and writes and reads all that lies between two products several times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from features.encoders import mkl
from features.encoders.fusing import replace_alike

if TYPE_CHECKING:
    from torch import Tensor

# Of transformers; but for how tokens become numbers they differ in nothing but the name.
_KINDS = ("BertModel", "CamembertModel", "RobertaModel", "XLMRobertaModel")


def shorten_layers(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Let networks of this kind that a model holds take fewer steps.

    model: in float32 and on a CPU, for inference; run: something that it gives, of a text with padding. It stays as it
    is where MKL is not, or if it then gives something else.
    """
    networks = [part for part in model.modules() if _is_like_bert(part)]
    if networks and mkl.is_found():
        with torch.no_grad():
            replace_alike(model, {network: _Network(network) for network in networks}, run(), run)


def _is_like_bert(part: nn.Module) -> bool:
    kind = type(part)
    if kind.__name__ not in _KINDS or not kind.__module__.startswith("transformers.models."):
        return False
    config: Any = part.config
    return config.hidden_act == "gelu" and not config.is_decoder


class _Network(nn.Module):
    """What stands in a network's place, and gives its tokens' last states.

    Legend: B text, T token, D number, L layer.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.config, self.embeddings = network.config, network.embeddings
        layers = network.encoder.layer
        self.num_heads, self.scale = layers[0].attention.self.num_attention_heads, layers[0].attention.self.scaling
        linears = [_linears(layer) for layer in layers]
        # Kept as long as their addresses are.
        self.packed = [[mkl.pack(weights_OI) for weights_OI, _ in layer] for layer in linears]
        weights_L4 = np.array([[weights.ctypes.data for weights in layer] for layer in self.packed])
        biases = (np.stack([bias for _, bias in each]) for each in zip(*linears, strict=True))
        self.layers = (weights_L4, *biases, np.stack([_norms(layer) for layer in layers]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        from features.encoders.bert_kernels import room_of, run_layers  # once it is known that there is MKL

        units_BTD = self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids).contiguous()
        num_texts, num_tokens, dim = units_BTD.shape
        room = torch.empty(room_of(num_texts, num_tokens, self.num_heads, dim, self.config.intermediate_size))
        units_ND, is_seen_BT = units_BTD.view(-1, dim).numpy(), (attention_mask != 0).numpy()
        epsilon = self.config.layer_norm_eps
        run_layers(units_ND, is_seen_BT, self.num_heads, self.scale, epsilon, self.layers, room.numpy())
        return BaseModelOutput(last_hidden_state=units_BTD)


def _linears(layer: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and bias of a layer's four products; the first gives what queries, keys and values do, side by side."""
    looks = [layer.attention.self.query, layer.attention.self.key, layer.attention.self.value]
    groups = [looks, [layer.attention.output.dense], [layer.intermediate.dense], [layer.output.dense]]
    return [(_side_by_side(group, "weight"), _side_by_side(group, "bias")) for group in groups]


def _side_by_side(linears: list[nn.Linear], name: str) -> np.ndarray:
    numbers: np.ndarray = torch.cat([getattr(linear, name).detach() for linear in linears]).numpy()
    return numbers


def _norms(layer: Any) -> np.ndarray:
    """float32 [norm, (factor, what is added), number]."""
    norms = (layer.attention.output.LayerNorm, layer.output.LayerNorm)
    return np.stack([np.stack([norm.weight.detach().numpy(), norm.bias.detach().numpy()]) for norm in norms])
