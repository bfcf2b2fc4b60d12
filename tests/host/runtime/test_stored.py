"""Stored programs: those of this contract give the bits that they gave, older ones are refused."""

import numpy as np
import pytest
import safetensors.numpy
from stored import LENGTHS, VERSIONS, program_file, results_file

from transept.golden.config import CONTRACT_VERSION
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.file import load
from transept.host.runtime.session import Session


@pytest.mark.parametrize("device", ["cpu", "emulator", "rtl"])
def test_what_was_stored_gives_the_same_bits(device):
    config, regions, _ = load(program_file(CONTRACT_VERSION))
    stored = safetensors.numpy.load_file(results_file(CONTRACT_VERSION))
    session = Session(config, device)
    for region in regions:
        inputs = {name: stored[f"{region.name}.{name}"] for name in region.graph.inputs}
        (dim,) = region.graph.dims
        result = session.run(region, inputs, {dim.name: LENGTHS})
        assert result.device == device
        for name, rows in result.outputs.items():
            assert np.array_equal(rows, stored[f"{region.name}.{name}"]), (region.name, name)
    assert not session.notes


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_contract_is_refused_by_name(version, monkeypatch):
    monkeypatch.setattr("transept.host.runtime.file.CONTRACT_VERSION", version + 1)
    with pytest.raises(ProgramError, match=f"contract.*{version}.*{version + 1}, the contract"):
        load(program_file(version))
