"""Models by name, and what is refused before it is computed."""

import dataclasses
import json
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers
from small_models import Words

from transept.golden.config import PYNQ_Z2, TINY
from transept.host import models
from transept.host.models import (
    Prepared,
    SentenceEncoder,
    TextModel,
    load_function,
    load_text_model,
    prepare_function,
)

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


@pytest.mark.parametrize("name", ["smollm2", "some.gguf"])
def test_language_models_have_commands_of_their_own(name):
    with pytest.raises(ValueError, match=f"{name} is a language model, for generate, serve and"):
        load_text_model(name)


def test_a_program_file_is_no_model(tmp_path):
    path = tmp_path / "a.tsp"
    with pytest.raises(ValueError, match=r"a\.tsp' is neither 'minilm' nor a folder"):
        load_text_model(str(path))
    path.touch()
    with pytest.raises(ValueError, match=f"^{path} is a program file, for verify, trace, disasm"):
        load_text_model(str(path))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is neither 'minilm' nor a folder"):
        load_text_model(str(tmp_path))


def test_a_model_is_loaded_without_a_word(tmp_path, monkeypatch):
    """Neither warnings nor the bars of transformers are the user's concern."""
    (tmp_path / "config.json").touch()
    (tmp_path / "vocab.txt").touch()
    logs = transformers.utils.logging
    logs.set_verbosity_info()
    logs.enable_progress_bar()
    for name in ("AutoModel", "AutoTokenizer"):
        kind = SimpleNamespace(
            from_pretrained=lambda folder, **_: (
                warnings.warn("old", stacklevel=1) or torch.nn.Identity()
            )
        )
        monkeypatch.setattr(f"transformers.{name}", kind)
    load_text_model(str(tmp_path))
    assert logs.get_verbosity() == logs.ERROR
    assert not logs.is_progress_bar_enabled()


def test_a_folder_is_a_model_with_its_tokenizer(tmp_path):
    saved = text_model("bert").module.encoder
    saved.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one"]))
    model = load_text_model(str(tmp_path))
    ids, mask = model.tokens(["one two"], 5)
    assert (ids.tolist(), mask.tolist()) == ([[2, 4, 1, 3, 0]], [[1, 1, 1, 1, 0]])
    assert model.name == str(tmp_path)
    assert not model.module.training
    assert model.module.encoder.config._attn_implementation == "eager"
    found = dict(model.module.encoder.named_parameters())
    assert all(torch.equal(found[name], value) for name, value in saved.named_parameters())


def test_sentences_are_unit_vectors_of_the_mean_of_their_tokens():
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    hidden = torch.tensor([[[2.0, 0.0], [4.0, 8.0], [9.0, 9.0]], [[0.0, 5.0], [7.0, 1.0], [1, 1]]])

    class Encoder(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            assert (input_ids is ids, attention_mask is mask) == (True, True)
            return SimpleNamespace(last_hidden_state=hidden)

    found = SentenceEncoder(Encoder())(ids, mask)
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


# --- a model of words
@pytest.fixture
def worded():
    linears = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 10))
    linears.config = SimpleNamespace(max_position_embeddings=99)
    return TextModel("worded", SentenceEncoder(linears), Words())


def test_tokens_are_cut_and_padded(worded):
    ids, mask = worded.tokens(["a bb ccc", "dddd"], 4)
    assert ids.tolist() == [[1, 11, 12, 2], [1, 14, 2, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert worded.longest(["a bb ccc", "dddd"], 20) == 5
    assert worded.longest(["a bb ccc", "dddd"], 4) == 4
    assert models.LONGEST == 1 << 20


def test_ranges_are_those_of_prose_its_beginnings_and_single_tokens(worded, monkeypatch):
    """Measured once for each configuration; single tokens are spread over 1,000."""
    monkeypatch.setattr(models, "calibration_texts", lambda: ["a", "bb", "ccc", "dd", "e", "f gg"])
    monkeypatch.setattr(models, "measure_ranges", lambda *found: found)
    module, batches, config = worded.ranges(TINY)
    assert (module, config) == (worded.module, TINY)
    prose, beginnings, single = batches[:2], batches[2:4], batches[4:]
    assert [tuple(ids.shape) for ids, _ in prose] == [(4, 128), (2, 128)]
    assert [tuple(ids.shape) for ids, _ in beginnings] == [(16, 16), (8, 16)]
    assert [tuple(ids.shape) for ids, _ in single] == [(4, 128)] * 4
    rows = [row[:4] for ids, _ in (*prose, *beginnings) for row in ids.tolist()]
    short = [[1, 10 + length, 2, 0] for length in (1, 2, 3, 2, 1)]
    whole, first = [1, 11, 12, 2], [1, 11, 2, 0]  # the last text, and one word of it
    assert rows == [*short, whole, *short, first, *[*short, whole] * 3]
    ids = torch.cat([ids for ids, _ in single]).tolist()
    assert ids == [[1, *[(2 * n + 1) * 1000 // 32] * 126, 2] for n in range(16)]
    assert all(mask.all() for _, mask in single)
    assert worded.ranges(TINY)[1] is batches
    assert worded.ranges(PYNQ_Z2)[2] == PYNQ_Z2


def test_cycles_are_those_of_the_linear_layers(worded):
    assert worded.cycles(TINY, 5, 3) == 5 * 3 * (6 * 8 + 8 * 10) // 16
    assert worded.positions == 99
    del worded.module.encoder.config.max_position_embeddings
    assert worded.positions == sys.maxsize


def test_texts_are_compiled_for_their_number_and_length(worded, monkeypatch):
    asked = []
    monkeypatch.setattr(TextModel, "ranges", lambda model, config: ("ranges", config))
    monkeypatch.setattr(
        models, "compile", lambda *found, **options: asked.append((found, options)) or "program"
    )
    texts = ["a bb", "a bb ccc", "a"]
    found = worded.prepare(texts, TINY, tokens=4, key_filter="causal")
    assert (found.name, found.program, found.texts) == ("worded", "program", tuple(texts))
    assert found.notes == ("text 1 has 5 tokens, cut to 4",)
    assert found.inputs[0].tolist() == [[1, 11, 12, 2], [1, 11, 12, 2], [1, 11, 2, 0]]
    (((module, (ids, mask)), options),) = asked
    assert module is worded.module
    assert (ids.tolist(), mask.sum().item()) == ([[1, 17, 2, 0]] * 3, 9)
    assert options == {"config": TINY, "calibration": ("ranges", TINY), "key_filter": "causal"}
    with pytest.raises(ValueError, match="sequence length 100 exceeds 99 of worded"):
        worded.compile(TINY, tokens=100, batch=1)


def test_work_of_a_program_is_that_of_its_regions():
    program = SimpleNamespace(explain=lambda: {"regions": [{"macs": 3}, {"macs": 4}]})
    assert Prepared("x", program, ()).macs == 7


# --- module:function
class Halved(torch.nn.Module):
    seen = None

    def forward(self, x):
        Halved.seen = (self.training, torch.is_grad_enabled())
        return x / 2


@pytest.fixture
def told(monkeypatch):
    """What the function ``my_model:f`` returns."""

    def tell(result):
        monkeypatch.setitem(sys.modules, "my_model", SimpleNamespace(f=lambda: result))

    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    return tell


def test_a_function_gives_a_module_and_its_example(told):
    x = torch.ones(2)
    module = Halved()
    told((module, [x]))
    for _ in range(2):
        assert load_function("my_model:f") == (module, (x,))
    assert Halved.seen == (False, False)
    assert sys.path.count("") == 1


def test_a_function_is_compiled_on_its_example(told, monkeypatch):
    x, module = torch.ones(2), Halved()
    told((module, (x,)))
    monkeypatch.setattr(models, "compile", lambda *found, **options: (found, options))
    found = prepare_function("my_model:f", TINY, "causal")
    assert (found.name, found.inputs) == ("my_model:f", (x,))
    assert found.program == ((module, (x,)), {"config": TINY, "key_filter": "causal"})


def test_an_example_may_be_one_tensor(told):
    x, module = torch.ones(2), Halved()
    told((module, x))
    assert load_function("my_model:f") == (module, (x,))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((3, (torch.ones(1),)), r"my_model:f must return \(torch.nn.Module, .*\), not tuple"),
        ((Halved(), (), ()), r"must return .*, not tuple"),
        ([Halved(), ()], r"must return .*, not list"),
        ((Halved(), {}), "example inputs of my_model:f must be a tensor or several, not dict"),
        ((Halved(), [torch.ones(1), None]), "example input 1 of .* must be a tensor, not NoneType"),
    ],
)
def test_what_a_function_must_not_return(told, result, message):
    told(result)
    with pytest.raises(ValueError, match=message):
        load_function("my_model:f")


def test_what_a_model_lacks_is_another_error(tmp_path, monkeypatch):
    """Than that there is no such model: its traceback tells where."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacking_model.py").write_text("import lacking_model_part\n")
    with pytest.raises(ModuleNotFoundError, match="'lacking_model_part'"):
        load_function("lacking_model:f")
    for name in ("no_such_package.part:f", "no_such_package:f"):
        with pytest.raises(ValueError, match=f"^cannot load '{name}': No module named 'no_such_p"):
            load_function(name)


@pytest.mark.parametrize("name", [":f", "my_model:", ":"])
def test_names_of_functions_are_whole(name):
    with pytest.raises(ValueError, match="is not module:function"):
        load_function(name)
