"""Costs in files: those of this machine and configuration, and those that are told."""

import json
import re

import pytest
from graphs import mlp
from placements import costs

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.placement import machine as module
from transept.host.placement.machine import (
    costs_file,
    costs_path,
    load_costs,
    machine,
    read_costs,
    save_costs,
)

GRAPH = mlp(1, [8, 8])
KNOWN = costs(GRAPH, 0, launch=1e-4, rate=1e9)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "costs.json"
    told = costs_file({"cpu": KNOWN}, command="a command")
    path.write_text(json.dumps(told))
    assert read_costs(path) == {"cpu": KNOWN}
    assert told["command"] == "a command"
    assert told["machine"] == machine()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", told["date"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.pop("devices"), "'devices'"),
        (lambda told: told.update(version=1), "its version is 1, this is 2"),
        (lambda told: told["devices"]["cpu"].pop("launch"), "'launch'"),
        (lambda told: told.update(devices=[]), "attribute 'items'"),
    ],
)
def test_what_is_no_costs_is_refused(tmp_path, change, message):
    path = tmp_path / "costs.json"
    told = costs_file({"cpu": KNOWN})
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"costs\.json holds no costs: .*{message}"):
        read_costs(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.json holds no costs: .*No such file"):
        read_costs(tmp_path / "nothing.json")


def test_costs_are_kept_beside_others():
    save_costs({"cpu": KNOWN}, TINY)
    other = costs(mlp(1, [8, 12]), 1, launch=2e-4)
    assert save_costs({"cpu": other, "gpu": KNOWN}, TINY) == load_costs(TINY)
    found = load_costs(TINY)
    assert found["gpu"] == KNOWN
    assert found["cpu"].launch == 2e-4
    assert found["cpu"].samples == KNOWN.samples | other.samples


def test_what_is_measured_again_replaces_what_was():
    save_costs({"cpu": KNOWN}, TINY)
    save_costs({"cpu": KNOWN.scaled(2.0)}, TINY)
    assert load_costs(TINY)["cpu"].samples == KNOWN.scaled(2.0).samples


def test_a_broken_file_is_none():
    save_costs({"cpu": KNOWN}, TINY)
    costs_path(TINY).write_text("{")
    assert load_costs(TINY) == {}


def test_costs_of_another_configuration_are_not_used():
    save_costs({"cpu": KNOWN}, TINY)
    assert load_costs(PYNQ_Z2) == {}


@pytest.mark.parametrize("about", ["processor", "cores", "threads", "gpu", "torch", "triton"])
def test_costs_of_another_machine_are_not_used(monkeypatch, about):
    save_costs({"cpu": KNOWN}, TINY)
    found = machine()
    monkeypatch.setattr(module, "machine", lambda: found | {about: "another"})
    assert load_costs(TINY) == {}


def test_the_machine_has_its_threads(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    assert machine()["threads"] == "77"
