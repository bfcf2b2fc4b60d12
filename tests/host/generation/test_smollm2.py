"""The real SmolLM2: all of its layers, on emulator and full-size RTL, as the CPU has them."""

import pytest

from transept.host.generation.generate import generate
from transept.host.language.kept import language_program

PROMPTS = [
    "What is gravity?",
    "Name three colours.",
    "How do I boil an egg?",
    "Write a haiku about rain.",
    "What is the capital of France?",
    "Translate 'good morning' to French.",
    "Count from one to ten.",
    "Why is the sky blue?",
]
BEGINS = "Gravity is a fundamental concept in physics that describes the"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def program():
    return language_program("smollm2")


def same(found, wanted):
    """Tokens, and all logits as far as the probabilities of these depend on them."""
    assert found.notes == wanted.notes == ()
    assert [answer.ids for answer in found.answers] == [answer.ids for answer in wanted.answers]
    assert [a.logprobs for a in found.answers] == [a.logprobs for a in wanted.answers]


def test_eight_prompts_on_the_emulator(program):
    wanted = generate(program, PROMPTS, device="cpu", tokens=32)
    assert wanted.text.startswith(BEGINS)
    same(generate(program, PROMPTS, device="emulator", tokens=32), wanted)


def test_a_prompt_and_three_tokens_on_the_rtl(program):
    wanted = generate(program, PROMPTS[0], device="cpu", tokens=4)
    found = generate(program, PROMPTS[0], device="rtl", tokens=4)
    same(found, wanted)
    print(f"{found.cycles_per_token:,.0f} cycles a token, {found.bandwidth_share(12.8):.4f}")
    assert found.cycles_per_token < 10_950_000
    assert found.bandwidth_share(12.8) > 0.99


@pytest.mark.parametrize(("device", "tokens"), [("emulator", 8), ("rtl", 3)])
def test_the_four_bits_that_the_file_has(device, tokens):
    program = language_program("smollm2", weights="w4")
    wanted = generate(program, PROMPTS[:2], device="cpu", tokens=tokens)
    assert BEGINS.startswith(wanted.answers[0].text)
    same(generate(program, PROMPTS[:2], device=device, tokens=tokens), wanted)


def test_drafts_of_a_table(program):
    table = "".join(f"| {n} | {n} times 2 is {2 * n} |\n" for n in range(1, 12))
    told = {"device": "cpu", "tokens": 60, "chat": False}
    plain = generate(program, table, **told)
    found = generate(program, table, speculate=7, **told)
    same(found, plain)
    print(f"{found.accepted_per_step:.2f} tokens a step")
    assert found.accepted_per_step >= 2
