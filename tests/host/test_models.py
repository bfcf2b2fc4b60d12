"""Models by name, and what is refused before it is computed."""

import dataclasses
import json

import pytest
import torch
import transformers

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.models import SentenceEncoder, TextModel, load_text_model

FACTS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}


def text_model(kind, **facts):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**FACTS, **facts})
    return TextModel(kind, SentenceEncoder(transformers.AutoModel.from_config(config)), None)


@pytest.mark.parametrize(
    ("kind", "positions", "tokens"),
    [("bert", 128, 128), ("roberta", 514, 512), ("xlm-roberta", 100, 98), ("mpnet", 130, 128)],
)
def test_positions_of_padding_are_not_for_tokens(kind, positions, tokens):
    model = text_model(kind, max_position_embeddings=positions)
    assert model.positions == tokens
    with pytest.raises(ValueError, match=f"sequence length {tokens + 1} exceeds {tokens} of"):
        model.check(PYNQ_Z2, tokens + 1, 1)
    model.check(PYNQ_Z2, tokens, 1)


def test_limits_name_the_value():
    model = text_model("bert")
    with pytest.raises(ValueError, match="129 x 64 tokens exceed 8,192"):
        model.check(TINY, 64, 129)
    model.check(TINY, 65, 1)


def test_a_run_that_would_take_too_long_is_refused():
    model = text_model("bert", hidden_size=128, intermediate_size=4096, num_hidden_layers=2)
    model.check(TINY, 64, 10)
    with pytest.raises(ValueError, match=r"bert on 128 x 64 tokens needs [\d,]+ cycles or more"):
        model.check(TINY, 64, 128)


def test_texts_that_are_too_long_are_named():
    model = text_model("bert", vocab_size=30522, max_position_embeddings=128)
    model = dataclasses.replace(model, tokenizer=load_text_model("minilm").tokenizer)
    texts = ["One two.", "one two three four five six seven eight nine", "Four words are here"]
    texts.append("word " * 600)  # more than the tokenizer would cut a text to
    prepared = model.prepare(texts, TINY, tokens=6)
    assert prepared.notes == (
        "text 1 has 11 tokens, cut to 6",
        "text 3 has 602 tokens, cut to 6",
    )
    assert prepared.inputs[0].shape == (4, 6)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **FACTS}))
    with pytest.raises(ValueError, match=f"{tmp_path} has no tokenizer: no file tokenizer.json"):
        load_text_model(str(tmp_path))
