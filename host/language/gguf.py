"""GGUF files of Llama models: sizes, weights and tokenizer, as transformers has them.

The format is that of ggml (its ``docs/gguf.md``); quantised tensors are dequantised to float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transept.host.reasons import first_line

if TYPE_CHECKING:
    import torch

__all__ = ["ARCHITECTURE", "GgufError", "GgufFile"]

#: The only architecture that is known.
ARCHITECTURE = "llama"
#: Tensors outside of the layers, and of each layer, by their name in the file.
_OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: What the file may hold that a model computes itself.
_LEFT_OUT = ("rope_freqs",)


class GgufError(ValueError):
    """A GGUF file that cannot be read, or holds another model; the message names the file."""


@dataclass(frozen=True, eq=False)
class GgufFile:
    """An open file; weights are read from it as they are asked for.

    Raises
    ------
    GgufError
        From ``open``, if it is no GGUF file or holds no Llama; from all else, if something is
        missing or of another kind.
    """

    path: Path
    _reader: Any

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Read the header, and where every tensor lies."""
        from gguf import GGUFReader

        try:
            reader = GGUFReader(path)
        except OSError as error:
            raise GgufError(f"{path}: {error.strerror or error}") from None
        except Exception as error:  # whatever a damaged file makes of the reader
            raise GgufError(f"{path} is no GGUF file, or a damaged one: {error}") from None
        file = cls(path, reader)
        found = file.fact("general.architecture", str)
        if found != ARCHITECTURE:
            raise GgufError(f"{path} holds a model of architecture {found}, not {ARCHITECTURE}")
        return file

    # --- facts
    def fact(self, name: str, kind: type, default: Any = None) -> Any:
        """A fact of the header: str, int, float, bool or list; default: if it is not there."""
        field = self._reader.get_field(name)
        if field is None:
            if default is None:
                raise GgufError(f"{self.path} lacks {name}")
            return default
        try:
            value = field.contents()
        except Exception as error:
            raise GgufError(f"{self.path}: {name} is damaged: {error}") from None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise GgufError(f"{self.path}: {name} is {value!r:.60}, must be {kind.__name__}")
        return value

    def _size(self, name: str, default: int | None = None) -> int:
        size = self.fact(f"{ARCHITECTURE}.{name}", int, default)
        if size < 1:
            raise GgufError(f"{self.path}: {ARCHITECTURE}.{name} is {size}, must be at least 1")
        return int(size)

    def config(self) -> Any:
        """Its ``transformers.LlamaConfig``."""
        from transformers import LlamaConfig

        heads, hidden = self._size("attention.head_count"), self._size("embedding_length")
        head = self._size("rope.dimension_count", max(1, hidden // heads))
        sizes: dict[str, Any] = {
            "vocab_size": len(self.fact("tokenizer.ggml.tokens", list)),
            "hidden_size": hidden,
            "intermediate_size": self._size("feed_forward_length"),
            "num_hidden_layers": self._size("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._size("attention.head_count_kv", heads),
            "head_dim": head,
            "max_position_embeddings": self._size("context_length"),
            "rms_norm_eps": self.fact(f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon", float),
            "rope_theta": self.fact(f"{ARCHITECTURE}.rope.freq_base", float, 10000.0),
            "tie_word_embeddings": not any(t.name == "output.weight" for t in self._tensors),
            "bos_token_id": self.token("bos"),
            "eos_token_id": self.token("eos"),
            "attn_implementation": "eager",
        }
        try:
            return LlamaConfig(**sizes)
        except Exception as error:  # of the library's checks, with the reason as its cause
            raise GgufError(f"{self.path}: {first_line(error.__cause__ or error)}") from None

    def token(self, name: str) -> int | None:
        """The id of a special token: bos, eos, unknown or padding; None if it has none."""
        found = self.fact(f"tokenizer.ggml.{name}_token_id", int, -1)
        return None if found < 0 else int(found)

    # --- weights
    @property
    def _tensors(self) -> list[Any]:
        return list(self._reader.tensors)

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight by its name in transformers, float32."""
        import torch

        config = self.config()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        for tensor in self._tensors:
            if tensor.name.split(".")[0] in _LEFT_OUT:
                continue
            name, part = self._named(tensor.name)
            values = self._values(tensor)
            if part in heads:
                values = _halves(values, heads[part])
            yield name, torch.from_numpy(np.array(values, np.float32, order="C"))

    def _named(self, name: str) -> tuple[str, str]:
        """The name of a tensor in transformers, and of the part that it belongs to in the file."""
        match name.split("."):
            case [part, "weight"] if part in _OUTSIDE:
                return f"{_OUTSIDE[part]}.weight", part
            case ["blk", layer, part, "weight"] if part in _INSIDE and layer.isdecimal():
                return f"model.layers.{int(layer)}.{_INSIDE[part]}.weight", part
        raise GgufError(f"{self.path}: there is no tensor {name} in a {ARCHITECTURE}")

    def _values(self, tensor: Any) -> np.ndarray:
        from gguf import dequantize

        try:
            return dequantize(tensor.data, tensor.tensor_type)
        except Exception as error:  # a kind of quantisation that gguf cannot read
            raise GgufError(
                f"{self.path}: {tensor.name} of type {tensor.tensor_type.name}: {error}"
            ) from None

    def module(self) -> torch.nn.Module:
        """The ``transformers.LlamaForCausalLM`` with these weights, in evaluation mode."""
        import torch
        from transformers import LlamaForCausalLM

        config = self.config()
        with torch.device("meta"):
            shapes = {n: p.shape for n, p in LlamaForCausalLM(config).named_parameters()}
        weights = dict(self.weights())
        for name, shape in shapes.items():
            if name not in weights:
                raise GgufError(f"{self.path} lacks the tensor of {name}")
            if weights[name].shape != shape:
                raise GgufError(
                    f"{self.path}: {name} is {list(weights[name].shape)}, must be {list(shape)}"
                )
        if unknown := [name for name in weights if name not in shapes]:
            raise GgufError(f"{self.path} holds {unknown[0]}, which its sizes have no room for")
        module = LlamaForCausalLM(config)
        module.load_state_dict(weights, strict=False)
        return module.eval()  # type: ignore[no-untyped-call]


def _halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys: a rotary embedding turns elements i and i + d / 2 of a head, and in
    the file those stand beside each other."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
