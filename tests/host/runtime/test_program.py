"""A program that was loaded gives the real numbers of the one that was compiled."""

import numpy as np
import pytest
import torch
from torch import nn

import transept
from transept.host.runtime.errors import ProgramError


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 5)).eval()
    x = torch.randn(6, 8)
    program = transept.compile(model, (x,), config="tiny")
    path = tmp_path_factory.mktemp("program") / "mlp.tsp"
    program.save(path)
    return program, transept.load(path), x


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_real_numbers_of_a_loaded_program(programs, device):
    program, loaded, x = programs
    (region,) = loaded.regions
    (name,), (out,) = region.graph.inputs, region.graph.outputs
    found = loaded.run({name: x.numpy()[None]}, device=device)[out]
    assert np.allclose(found[0], program.run(x, device=device).numpy(), rtol=1e-6, atol=0)
    assert np.abs(found[0] - program.reference(x).numpy()).max() < 0.02


def test_steps_and_real_numbers_are_inverse(programs):
    _, loaded, _ = programs
    (region,) = loaded.regions
    (name,) = region.graph.inputs
    steps = np.array([[[-3, 0, 1, 2, 3, 4, 5, 32_000]]])
    assert (region.quantise(name, region.real(name, steps)) == steps).all()


def test_a_loaded_program_explains_itself(programs):
    program, loaded, _ = programs
    assert loaded.explain() == program.explain()
    assert loaded.explain()["linears_on"] == 2


def test_a_loaded_program_has_no_float_model(programs):
    _, loaded, x = programs
    with pytest.raises(ProgramError, match="no float model"):
        loaded.reference(x)
