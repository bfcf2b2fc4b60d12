"""Every model of the zoo: all of its linears on the accelerator, the same bits on every device."""

import pytest
import torch
from zoo import ZOO, load

import transept
from transept.golden.config import PYNQ_Z2

#: Attentions that stay with torch, for they add a bias to their scores.
BIASED = {"mpnet", "t5, encoder"}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ZOO)
def test_model(name):
    model, inputs = load(name)
    program = transept.compile(model, inputs, config=PYNQ_Z2)
    found = program.explain()
    assert found["linears_on"] == found["linears_total"]
    assert found["attention_on"] == found["attention_total"] - (name in BIASED)
    if name in BIASED:
        reasons = {entry["reason"] for entry in found["fallback"] if entry["macs"]}
        assert len(reasons) == 1
        assert "is a bias, no mask" in reasons.pop()
    else:
        assert found["macs_share"] == (1 if name != "norm" else 0)
    on_golden = program.run(*inputs, device="golden")
    for device in ("emulator", "cpu"):
        assert torch.equal(program.run(*inputs, device=device), on_golden), device
        assert not [note for note in program.notes if " ran " in note]
    with torch.no_grad():
        wanted = model(*inputs)
    assert (on_golden.shape, on_golden.dtype) == (wanted.shape, wanted.dtype)
    rows = [x.double().reshape(-1, x.shape[-1]) for x in (on_golden, wanted)]
    assert torch.nn.functional.cosine_similarity(*rows).min() >= 0.995
