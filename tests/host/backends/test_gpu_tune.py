"""Sizes of tiles: what is tried, how it is timed, and what is kept in which file."""

import contextlib
import json
import logging

import pytest
import torch
import triton.testing
from triton.runtime.errors import OutOfResources

from transept.host.backends.gpu import capture as capturing
from transept.host.backends.gpu import tune
from transept.host.kernels.matmul import Blocks


def test_what_is_tried():
    attentions = [(b.m, b.n, b.registers, b.parts) for b in tune.ATTENTION_BLOCKS]
    assert attentions == [
        (64, 64, 168, 0),
        (64, 128, 168, 0),
        (128, 128, None, 0),
        (128, 64, 168, 0),
        (64, 128, 168, 1),
        (64, 128, 168, 2),
        (64, 128, 128, 1),
        (64, 64, None, 1),
    ]
    products = {
        rows: [(b.m, b.n, b.group) for b in tune.linear_blocks(rows)]
        for rows in (1, 64, 65, 8192, 8193)
    }
    few = [(64, 64, 8), (64, 32, 8), (32, 32, 8), (32, 64, 8), (16, 32, 8)]
    some = [(128, 128, 8), (64, 128, 8), (64, 64, 8), (128, 64, 8), (64, 32, 8)]
    many = [(128, 128, 8), (128, 128, 16), (128, 128, 32)]
    assert products == {1: few, 64: few, 65: some, 8192: some, 8193: many}


CANDIDATES = [Blocks(group=group) for group in (1, 2, 3)]


@pytest.fixture
def tuner(monkeypatch, tmp_path):
    """Makes one for a card on which the second candidate is the fastest."""
    monkeypatch.setattr(tune, "INTERPRETED", False)
    monkeypatch.setattr(tune, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(tune, "_milliseconds", lambda run: abs(run() - 2))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card 9")
    monkeypatch.setattr("importlib.metadata.version", {"torch": "2.0", "triton": "3"}.get)
    return lambda device="cuda": tune.Tuner(torch.device(device))


def group(blocks):
    return blocks.group


def test_choices_are_kept_with_the_card_and_the_versions(tuner, tmp_path):
    first, other = tuner(), tuner()
    assert first.fastest(("linear", 5, None), CANDIDATES, group).group == 2
    assert other.fastest(("linear", 6), CANDIDATES[:2], group).group == 2
    (path,) = (tmp_path / "kernels").iterdir()
    assert path.name == "A_card_9-2.0-3.json"
    told = json.loads(path.read_text())
    keys = [json.loads(key) for key in told]
    assert [key[:-1] for key in keys] == [["linear", "5", "None"], ["linear", "6"]]
    assert [len(key[-1]) for key in keys] == [3, 2]
    assert list(told.values()) == [1, 1]


def test_what_is_known_is_not_timed_again(tuner, monkeypatch, tmp_path):
    """Nor is the only candidate; the folder of the cache need not be there."""
    monkeypatch.setattr(tune, "cache_dir", lambda: tmp_path / "not" / "yet")
    assert tuner().fastest(("linear",), CANDIDATES, group).group == 2
    monkeypatch.setattr(tune, "_milliseconds", None)
    assert tuner().fastest(("linear",), CANDIDATES, group).group == 2
    assert tuner().fastest(("other",), CANDIDATES[2:], group).group == 3


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_broken_file_is_none(tuner, tmp_path, text):
    (tmp_path / "kernels").mkdir()
    path = tmp_path / "kernels" / "A_card_9-2.0-3.json"
    path.write_text(text)
    assert tuner().fastest(("linear",), CANDIDATES, group).group == 2
    assert list(json.loads(path.read_text()).values()) == [1]


def test_a_cache_that_cannot_be_written_is_told(tuner, tmp_path, caplog):
    (tmp_path / "kernels").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert tuner().fastest(("linear",), CANDIDATES, group).group == 2
    assert "choices of kernels are not kept: " in caplog.text


def test_without_a_card_the_first_is_taken(tuner, monkeypatch, tmp_path):
    assert tuner("cpu").fastest(("linear",), CANDIDATES, group).group == 1
    monkeypatch.setattr(tune, "INTERPRETED", True)
    assert tuner().fastest(("linear",), CANDIDATES, group).group == 1
    assert not list(tmp_path.iterdir())


# --- times
def test_a_time_is_that_of_one_launch_among_others(monkeypatch):
    asked, launched = [], []

    class Captured:
        def replay(self):
            pass

    def capture(launches):
        launches()
        return Captured()

    def do_bench(replay, **options):
        asked.append(options)
        return 24.0

    monkeypatch.setattr(tune, "capture", capture)
    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    assert tune._milliseconds(lambda: launched.append(1)) == 3.0
    assert len(launched) == 8
    assert asked == [{"warmup": 5, "rep": 20, "return_mode": "median"}]

    def too_large():
        raise OutOfResources(9, 7, "shared memory")

    assert tune._milliseconds(too_large) == float("inf")


def test_a_capture_starts_once_before(monkeypatch):
    """To compile; on a stream of its own, beside what other threads do."""
    asked = []

    @contextlib.contextmanager
    def graph(captured, **options):
        asked.append(("begin", captured, options))
        yield
        asked.append("end")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: asked.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "a graph")
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "a stream")
    monkeypatch.setattr(torch.cuda, "graph", graph)
    assert capturing.capture(lambda: asked.append("launch")) == "a graph"
    options = {"stream": "a stream", "capture_error_mode": "thread_local"}
    begin = ("begin", "a graph", options)
    assert asked == ["launch", "synchronize", begin, "launch", "end"]
