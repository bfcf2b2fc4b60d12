"""Programs of language models: what they compute, kept in a folder, found again, and refused."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from talkers import MODELS, four_bit_program, gpt2_model, llama_model
from transformers import GPT2LMHeadModel

from transept.golden.config import TINY, preset
from transept.golden.ops import Linear
from transept.host.compiler.errors import CompileError
from transept.host.generation.decoder import Growth
from transept.host.generation.session import LanguageSession
from transept.host.language import compile as compiling
from transept.host.language import kept
from transept.host.language.compile import compile_language
from transept.host.language.entry import Entry
from transept.host.language.model import LanguageModel
from transept.host.language.program import load_program, save_program
from transept.host.runtime.region import Region

IDS = [7, 8, 9, 30, 31, 7, 8, 200, 201, 5, 60]


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """A model and its program."""
    model = MODELS[request.param](tmp_path_factory.mktemp("model"))
    return model, compile_language(model, TINY)


@pytest.fixture
def few_texts(monkeypatch):
    """Calibration that takes no time."""
    monkeypatch.setattr(compiling, "RUNS", 1)


def logits(program, ids):
    session = LanguageSession(program, "golden")
    return session.grow([Growth(session.open(), ids, len(ids))])[0]


def test_logits_are_near_those_of_the_model(pair):
    model, program = pair
    with torch.no_grad():
        wanted = model.module(torch.tensor([IDS])).logits[0].numpy()
    found = logits(program, IDS)
    assert found.shape == wanted.shape
    cosine = (
        (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    )
    assert cosine.min() > 0.97
    assert program.size == wanted.shape[1]
    assert [dim.limit for dim in program.head.dims] == [4096]


def test_it_enters_as_the_model_has_it(pair):
    model, program = pair
    ids = np.arange(program.size)[None, ::-1].copy()
    positions = ids % program.context
    found = program.enter(ids, positions)
    embedding = model.module.get_input_embeddings().weight[ids[0]]
    if isinstance(model.module, GPT2LMHeadModel):
        embedding = embedding + model.module.transformer.wpe.weight[positions[0]]
    (name, *rotary) = program.entries
    scale = program.layers.values[name].scale
    assert np.array_equal(found[name][0], np.rint(embedding.detach().double().numpy() / scale))
    if rotary:
        cos, sin = (found[name][0].astype(float) / 2**14 for name in rotary)
        frequency = 500.0 ** (-np.arange(4) / 4)
        angle = positions[0][:, None] * np.tile(frequency, 2)
        assert np.allclose(cos, np.cos(angle), atol=1e-4)
        assert np.allclose(sin, np.sin(angle) * np.repeat([-1, 1], 4), atol=1e-4)


def test_a_program_that_was_kept(pair, tmp_path):
    _, program = pair
    save_program(dataclasses.replace(program, notes=("something",)), tmp_path)
    found = load_program(tmp_path)
    assert found.notes == ("something",)
    assert np.array_equal(logits(found, IDS), logits(program, IDS))
    assert repr(found) == repr(program)
    assert found.vocabulary.encode("he was") == program.vocabulary.encode("he was")
    assert found.vocabulary.stops == program.vocabulary.stops
    assert found.vocabulary.chats == program.vocabulary.chats


def test_found_again_by_what_makes_it(tmp_path, monkeypatch, few_texts):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path / "cache"))
    llama_model(tmp_path)
    name = str(tmp_path / "llama.gguf")
    assert not kept.is_kept(name, TINY)
    first = kept.language_program(name, TINY)
    assert kept.is_kept(name, TINY)
    assert not kept.is_kept(name, TINY, layers=1)
    assert not kept.is_kept(name, preset("pynq_z2"))
    monkeypatch.setattr(kept, "load_language_model", None)
    again = kept.language_program(name, "tiny")
    assert np.array_equal(logits(again, IDS), logits(first, IDS))
    data = bytearray((tmp_path / "llama.gguf").read_bytes())
    data[-1] ^= 1
    (tmp_path / "llama.gguf").write_bytes(data)
    assert not kept.is_kept(name, TINY)
    with pytest.raises(ValueError, match=r"none\.gguf: No such file or directory"):
        kept.language_program(str(tmp_path / "none.gguf"), TINY)
    with pytest.raises(ValueError, match="'other' is neither 'smollm2' nor a GGUF file nor"):
        kept.is_kept("other", TINY)


def test_what_a_program_is_made_of(tmp_path, monkeypatch):
    """The files of the model, and all source but that which looks for programs."""
    package, model = tmp_path / "package", tmp_path / "model"
    places = {
        "golden/deep/a.py": True,
        "host/front/b.py": True,
        "host/language/kept.py": False,
        "host/language/c.py": True,
        "host/runtime/graph_file.py": True,
        "host/runtime/driver.py": False,
        "host/serve/app.py": False,
        "golden/notes.txt": False,
    }
    paths = {package / place: counts for place, counts in places.items()}
    paths |= {model / "config.json": True, model / "deep" / "it.bin": True}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    monkeypatch.setattr(kept, "__file__", str(package / "host/language/kept.py"))
    monkeypatch.setattr(kept, "_PART", 2)

    def recipe(layers=None, weights="w8"):
        return kept._recipe("it", model, TINY, layers, weights)

    before = recipe()
    assert (before.kind, before.label) == ("language", "it, w8, tiny")
    for path, counts in paths.items():
        path.write_bytes(b"odd")
        assert (recipe().content != before.content) == counts, path
        path.write_bytes(b"old")
    other = recipe(3, "w4")
    assert other.label == "it, w4, tiny, 3 layers"
    assert len({before.content, other.content, recipe(3).content, recipe(4).content}) == 4


def test_first_layers_alone(tmp_path, few_texts):
    model = gpt2_model(tmp_path)
    one = compile_language(model, TINY, layers=1)
    assert (one.depth, compile_language(model, TINY).depth) == (1, 2)
    with torch.no_grad():
        del model.module.transformer.h[1]
        wanted = model.module(torch.tensor([IDS])).logits[0].numpy()
    found = logits(one, IDS)
    cosine = (
        (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    )
    assert cosine.min() > 0.97
    for layers in (0, 3):
        with pytest.raises(ValueError, match=f"^{layers} layers of a model that has 2$"):
            compile_language(gpt2_model(tmp_path), TINY, layers=layers)
    without = LanguageModel("it", torch.nn.Linear(2, 2), model.vocabulary)
    with pytest.raises(ValueError, match=r"^1 layers of a model that has 0$"):
        compile_language(without, TINY, layers=1)


class Numbers:
    """A tokenizer that tells letters by their number."""

    def encode(self, text):
        return [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("length", "context", "shape"),
    [
        (3, 999, (1, 4, 128)),
        (1023, 128, (1, 4, 128)),
        (1024, 129, (2, 4, 128)),
        (9999, 999, (10, 4, 128)),
        (100, 7, (3, 4, 7)),
    ],
)
def test_texts_of_calibration_are_cut_into_sequences(monkeypatch, length, context, shape):
    text = "".join(chr(33 + n % 999) for n in range(length - 2))
    monkeypatch.setattr(compiling, "calibration_texts", lambda: [text[:1], text[1:]])
    model = SimpleNamespace(context=context, vocabulary=Numbers())
    found = compiling._calibration_inputs(model)
    ids = np.concatenate([ids.numpy() for ids, _ in found]).reshape(shape)
    text = Numbers().encode(f"{text[:1]}\n\n{text[1:]}")
    assert np.array_equal(ids.ravel(), np.resize(text, ids.size))
    for _, positions in found:
        assert positions.tolist() == [list(range(shape[2]))] * 4


class Scaled(torch.nn.Module):
    """A head with something behind it."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head(x).cumsum(-1)


class Mixed(torch.nn.Module):
    """Embeddings that positions multiply."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def forward(self, input_ids, position_ids, use_cache):
        rows = self.get_input_embeddings()(input_ids) * self.model.transformer.wpe(position_ids)
        return self.model(inputs_embeds=rows, position_ids=position_ids, use_cache=False)


def test_models_that_are_none(tmp_path, few_texts):
    model = gpt2_model(tmp_path)
    object.__setattr__(model, "module", Mixed(model.module))
    with pytest.raises(ValueError, match="neither of a token, nor of a position, nor their sum"):
        compile_language(model, TINY)
    model = gpt2_model(tmp_path)
    model.module.lm_head = Scaled(model.module.lm_head)
    with pytest.raises(ValueError, match="computes something behind its vocabulary projection"):
        compile_language(model, TINY)
    model = gpt2_model(tmp_path)
    model.module.lm_head = torch.nn.Identity()
    with pytest.raises(ValueError, match="must end in a vocabulary projection"):
        compile_language(model, TINY)


def test_what_does_not_fit(tmp_path, few_texts, monkeypatch):
    model = llama_model(tmp_path)
    message = "falls into 3 regions, must be one: half a head of 8 elements is no multiple of 16"
    with pytest.raises(ValueError, match=message):
        compile_language(model, preset("pynq_z2"))

    shapes = []

    def executable(region, shape):
        shapes.append((shape.batch, *shape.lengths.values()))
        if len(shapes) == 2:
            raise CompileError("no way to cut it")

    monkeypatch.setattr(Region, "executable", executable)
    with pytest.raises(ValueError, match=r"llama\.gguf does not fit tiny: no way to cut it"):
        compile_language(model, TINY)
    assert sorted(shapes) == [(1, 1), (1, 1, 1)]


def test_embeddings_that_calibration_never_saw(tmp_path, few_texts):
    model = gpt2_model(tmp_path)
    with torch.no_grad():
        model.module.get_input_embeddings().weight[200:] *= 100
    assert compile_language(model, TINY).notes == ()  # sums are clipped when they are formed
    model = llama_model(tmp_path)
    with torch.no_grad():
        model.module.get_input_embeddings().weight[200:] *= 100
    program = compile_language(model, TINY)
    name = next(iter(program.entries))
    embedding = model.module.get_input_embeddings().weight.detach().double().numpy()
    value = program.layers.values[name]
    beyond = int((np.abs(np.rint(embedding / value.scale)) > value.limit).sum())
    assert 0 < beyond < 1000
    assert program.notes == (
        f"{beyond} of {embedding.size:,} values lie beyond the grid of {name} and were clipped",
    )


def test_facts_are_plain(pair, tmp_path):
    save_program(pair[1], tmp_path)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["context"] == pair[0].context
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "entries.safetensors",
        "facts.json",
        "model.tsp",
        "tokenizer",
    ]


@pytest.mark.parametrize(
    ("limit", "wanted"), [(127, [127, 3, -127]), (32767, [600, 3, -600]), (400, [400, 3, -400])]
)
def test_sums_beyond_the_grid_are_clipped(limit, wanted):
    token, position = np.float32([[100, 1, 100]]), np.float32([[200, 0.5, 200]])
    entry = Entry(token, position, np.array([0.5, 0.5, -0.5]), limit)
    found = entry.rows(np.array([0]), np.array([0]))
    assert found.tolist() == [wanted]
    assert found.dtype == (np.int8 if limit == 127 else np.int16)


def test_four_bits_are_kept_as_the_model_has_them(tmp_path, few_texts):
    found = four_bit_program(tmp_path)
    linears = [op for op in (*found.layers.ops, *found.head.ops) if isinstance(op, Linear)]
    assert all(op.halves for op in linears)
    # the last of each layer has 48 inputs, the vocabulary projection more levels
    assert sum(op.packed is None for op in linears) == 3
    model = llama_model(tmp_path, four_bits=True)
    with torch.no_grad():
        wanted = model.module(torch.tensor([IDS])).logits[0].numpy()
    distance = np.linalg.norm(logits(found, IDS) - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert distance.max() < 0.1


def test_four_bits_want_a_model_that_has_them(tmp_path, few_texts):
    with pytest.raises(ValueError, match="no weights of the model lie on 16 levels in each group"):
        compile_language(llama_model(tmp_path), TINY, weights="w4")
    with pytest.raises(ValueError, match="weights are w8 or w4, not 'w2'"):
        kept.language_program("smollm2", weights="w2")


def test_four_bits_want_a_configuration_that_has_halves(tmp_path, few_texts):
    config = TINY.replace(name="plain", halves=False, packed=False)
    with pytest.raises(ValueError, match="plain has no block 'halves', which w4 needs"):
        compile_language(llama_model(tmp_path, four_bits=True), config, weights="w4")
