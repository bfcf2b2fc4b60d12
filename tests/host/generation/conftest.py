"""Programs of small language models, compiled once."""

import pytest
from talkers import MODELS, four_bit_program, program


@pytest.fixture(scope="session", params=[*MODELS, "four bits"])
def any_program(request, tmp_path_factory):
    """Of every kind."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "four bits":
        return four_bit_program(folder)
    return program(folder, request.param)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """Of the Llama."""
    return program(tmp_path_factory.mktemp("llama"))
