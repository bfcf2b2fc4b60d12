"""Options that commands share: what they mean, and what is prepared of them."""

import pytest
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from transept.golden.config import TINY, preset
from transept.host.cli import options
from transept.host.cli.options import (
    DeviceName,
    MemoryName,
    TokensOption,
    check_accelerator,
    choose_config,
    device_options,
    prepare,
    running,
    working,
)

BOARD, DEFAULT = MemoryName.board, MemoryName.default


def test_the_memory_of_the_board_has_a_port_of_64_bits():
    assert choose_config("pynq_z2") == choose_config("pynq_z2", DEFAULT) == preset("pynq_z2")
    assert choose_config("pynq_z2", BOARD) == preset("pynq_z2_board")
    assert choose_config("tiny", BOARD) == TINY
    assert choose_config("pynq_z2_board", BOARD) == preset("pynq_z2_board")


def test_blocks_by_high_level_synthesis_are_named():
    assert choose_config("tiny", hls="rsqrt,window") == TINY.replace(hls=("rsqrt", "window"))
    board = choose_config("pynq_z2", BOARD, "rsqrt")
    assert board == preset("pynq_z2_board").replace(hls=("rsqrt",))
    with pytest.raises(ValueError, match="no block 'x' by high-level synthesis, there are expon"):
        choose_config("tiny", hls="x")


def test_blocks_that_are_built_are_named():
    most = choose_config("tiny", blocks="attention,activation,norm")
    assert most == TINY.replace(elementwise=False, halves=False, packed=False)
    none = choose_config("tiny", filters="dense", blocks="attention,norm")
    assert none == TINY.replace(
        names=("dense",), activation=False, elementwise=False, halves=False, packed=False
    )
    with pytest.raises(ValueError, match="unknown block 'nrom', there are attention, activation"):
        choose_config("tiny", blocks="attention,nrom")
    with pytest.raises(ValueError, match="attention=False with 4 key filters"):
        choose_config("tiny", blocks="")


def test_key_filters_that_are_built_are_named():
    assert choose_config("tiny", filters="dense,causal") == TINY.replace(names=("dense", "causal"))
    with pytest.raises(ValueError, match="unknown key filter 'x', there are dense"):
        choose_config("tiny", filters="dense,x")
    with pytest.raises(ValueError, match="unknown key filter ''"):
        choose_config("tiny", filters="")


def test_only_accelerators_have_options():
    found = {device.value: device_options(device, BOARD, 7) for device in DeviceName}
    assert found == {
        "rtl": {"seed": 7, "memory": "board"},
        "emulator": {"seed": 7},
        **{name: {} for name in ("gpu", "cpu", "golden", "auto")},
    }
    check_accelerator(DeviceName.rtl)
    check_accelerator(DeviceName.emulator)
    with pytest.raises(ValueError, match="no accelerator 'gpu', there is rtl and emulator"):
        check_accelerator(DeviceName.gpu)


def test_only_the_rtl_is_built(stand_in):
    built = stand_in("transept.sim.build.accelerator_library")
    for device in DeviceName:
        options.build_simulation(TINY, device)
    assert built == [("accelerator_library", TINY)]


class Model:
    """A text model that remembers what it is asked for."""

    def __init__(self):
        self.asked = []

    def check(self, config, tokens, batch):
        self.asked.append((config, tokens, batch))

    def cycles(self, config, tokens, batch):
        assert (config, tokens, batch) == self.asked[0]
        return 1234567

    def prepare(self, texts, config, **told):
        self.asked.append((texts, config, told))
        return "prepared"


@pytest.mark.parametrize(
    ("told", "tokens", "batch", "texts"),
    [
        ({}, 128, 1, ["long", 128, 1]),
        ({"tokens": 9, "batch": 3}, 9, 3, ["long", 9, 3]),
        ({"tokens": 9, "batch": 3, "texts": ["a", "b"]}, 9, 2, ["a", "b"]),
    ],
)
def test_a_text_model_is_checked_before_it_is_compiled(
    stand_in, capsys, told, tokens, batch, texts
):
    model = Model()
    stand_in("transept.host.models.load_text_model", model)
    calls = stand_in("transept.host.bench.model.long_texts", lambda found, *sizes: ["long", *sizes])
    given = {"tokens": None, "batch": None, "key_filter": "causal"} | told
    assert prepare("m", TINY, **given) == "prepared"
    wanted = {"tokens": tokens, "key_filter": "causal"}
    assert model.asked == [(TINY, tokens, batch), (texts, TINY, wanted)]
    assert calls[0] == ("load_text_model", "m")
    assert len(calls) == 1 + ("texts" not in told)
    out = capsys.readouterr().out
    assert "loading m" in out
    assert "1,234,567 cycles or more" in " ".join(out.split())


def test_sizes_are_checked_before_a_model_is_loaded():
    with pytest.raises(ValueError, match="2 x 9000 tokens exceed 8,192"):
        prepare("nothing", TINY, tokens=9000, batch=2)


def test_a_function_brings_its_example(stand_in):
    calls = stand_in("transept.host.models.prepare_function", "prepared")
    assert prepare("m:f", TINY, tokens=None, batch=None, key_filter="causal") == "prepared"
    assert calls == [("prepare_function", "m:f", TINY, "causal")]
    for told in ({"texts": ["a"]}, {"tokens": 3}, {"batch": 3}):
        with pytest.raises(ValueError, match="m:f brings its own example; --text, --tokens"):
            prepare("m:f", TINY, **{"tokens": None, "batch": None} | told)


def test_the_help_tells_the_longest_sequence():
    (told,) = TokensOption.__metadata__
    assert told.help == "of a sequence, 128 if not told; attention to 512"


def test_work_has_a_spinner_and_stays_to_be_read():
    progress = working("it")
    assert [task.description for task in progress.tasks] == ["it"]
    kinds = [SpinnerColumn, TextColumn, TimeElapsedColumn]
    assert [type(column) for column in progress.columns] == kinds
    assert progress.live.transient is False
    assert progress.console is options.console


def test_cycles_have_a_bar(monkeypatch):
    made = []

    class Progress(options.Progress):
        def __init__(self, *columns, **told):
            super().__init__(*columns, **told)
            made.append(self)

    monkeypatch.setattr(options, "Progress", Progress)
    told = {"memory": "default"}
    with running("it", 500.0, told):
        told["progress"](200)
        (task,) = made[0].tasks
        assert (task.description, task.total, task.completed) == ("it", 500, 200)
    assert task.completed == 500
    kinds = [TextColumn, BarColumn, TaskProgressColumn, TimeElapsedColumn]
    assert [type(column) for column in made[0].columns] == kinds
    with running("it", 500.0, other := {}):
        assert other == {}
    assert isinstance(made[1].columns[0], SpinnerColumn)
