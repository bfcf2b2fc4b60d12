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


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_loaded_program_tells_what_was_clipped(programs, device):
    program, loaded, x = programs
    (region,) = loaded.regions
    (name,) = region.graph.inputs
    loaded.run({name: x.numpy()[None]}, device=device)
    assert loaded.notes == []
    loaded.run({name: 100 * x.numpy()[None]}, device=device)
    program.run(100 * x, device="cpu")
    (told,) = (note for note in loaded.notes if "beyond the grid" in note)
    assert told in program.notes
    rows = np.concatenate([x.numpy(), np.full((2, 8), 1e30)])[None]
    loaded.run({name: rows}, {region.graph.values[name].dim: [6]}, device=device)
    assert loaded.notes == []


def test_a_region_by_its_name(programs):
    _, loaded, x = programs
    (region,) = loaded.regions
    (name,) = region.graph.inputs
    integers = {name: region.quantise(name, x.numpy()[None])}
    found = loaded.run_region(region.name, integers, device="cpu").result.outputs
    (out,) = region.graph.outputs
    wanted = loaded.run_region(region, integers, device="cpu").result.outputs
    assert np.array_equal(found[out], wanted[out])
    with pytest.raises(ProgramError, match=f"no region 'other', there are {region.name}"):
        loaded.run_region("other", integers)


@pytest.mark.parametrize(
    ("lengths", "message"), [(6, "are 6, must be a list"), ([2.5], "sequence length 2.5 of")]
)
def test_lengths_are_whole_numbers(programs, lengths, message):
    _, loaded, x = programs
    (region,) = loaded.regions
    (name,) = region.graph.inputs
    with pytest.raises(ProgramError, match=message):
        loaded.run({name: x.numpy()[None]}, {region.graph.values[name].dim: lengths}, device="cpu")


def test_options_of_auto(programs):
    program, _, x = programs
    assert torch.equal(program.run(x, device="auto", fallback=False), program.run(x, device="cpu"))
    with pytest.raises(ValueError, match="device auto has no option 'seed', there is fallback"):
        program.run(x, device="auto", seed=1)


def test_inputs_with_names_are_no_options(programs):
    program, _, x = programs
    with pytest.raises(ValueError, match=r"^input: inputs with names go into one dictionary$"):
        program.run(input=x, device="cpu")


def test_a_loaded_program_explains_itself(programs):
    program, loaded, _ = programs
    assert loaded.explain() == program.explain()
    assert loaded.explain()["linears_on"] == 2


def test_a_loaded_program_has_no_float_model(programs):
    _, loaded, x = programs
    with pytest.raises(ProgramError, match="no float model"):
        loaded.reference(x)
