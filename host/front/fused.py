"""torch's fused encoder layer, spelled out as the operators that patterns find."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["encoder_layer"]

#: ``mask_type`` of a mask that is padding, [batch, tokens]; every other one is over scores.
_PADDING = 1


def encoder_layer(
    x: torch.Tensor,
    width: int,
    heads: int,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    use_gelu: bool,
    norm_first: bool,
    epsilon: float,
    norm1_weight: torch.Tensor,
    norm1_bias: torch.Tensor,
    norm2_weight: torch.Tensor,
    norm2_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    mask_type: int | None = None,
) -> torch.Tensor:
    """What ``torch._transformer_encoder_layer_fwd`` computes, with its operands.

    x: float[batch, tokens, width]; mask: added to the scores, float[batch, tokens] if ``mask_type``
    is 1, else float[tokens, tokens] or float[batch, heads, tokens, tokens].
    """
    shape = (width,)
    padding = mask if mask_type == _PADDING else None
    scores = None if mask is None or mask_type == _PADDING else mask.reshape(-1, *mask.shape[-2:])

    def attention(x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(0, 1)
        y, _ = functional.multi_head_attention_forward(
            query=x,
            key=x,
            value=x,
            embed_dim_to_check=width,
            num_heads=heads,
            in_proj_weight=qkv_weight,
            in_proj_bias=qkv_bias,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=out_weight,
            out_proj_bias=out_bias,
            training=False,
            key_padding_mask=padding,
            attn_mask=scores[0] if scores is not None and len(scores) == 1 else scores,
            need_weights=False,
        )
        return y.transpose(0, 1)

    def feed_forward(x: torch.Tensor) -> torch.Tensor:
        hidden = functional.linear(x, up_weight, up_bias)
        hidden = functional.gelu(hidden) if use_gelu else functional.relu(hidden)
        return functional.linear(hidden, down_weight, down_bias)

    def norm1(x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, shape, norm1_weight, norm1_bias, epsilon)

    def norm2(x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, shape, norm2_weight, norm2_bias, epsilon)

    if norm_first:
        x = x + attention(norm1(x))
        return x + feed_forward(norm2(x))
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))
