"""cocotb test of the window filter: its answers, and the cycles that they take."""

import cocotb
import numpy as np
import settings
from pins import Pins

from transept.golden.filters import QueryBlock, Window, kept_tiles
from transept.rtl.attention.filters.window import WindowFilter

CFG = settings.config()
DESIGN = WindowFilter(CFG)
REQUESTS = 150


def draw(rng):
    """A rule and the block that it is asked about."""
    keys = int(rng.choice([1, CFG.tile, CFG.geometry.max_keys, rng.integers(1, 60)]))
    base = int(rng.choice([0, 65_530 - keys, rng.integers(0, 60_000)]))
    position = max(0, base + int(rng.integers(-keys - 9, 2 * keys)))
    reach = [0, 1, CFG.tile, 4095, rng.integers(0, keys)]
    rule = Window(before=int(rng.choice(reach)), after=int(rng.choice(reach)))
    return rule, QueryBlock(tile=CFG.tile, position=position, keys=keys, key_base=base)


def seen(block, answer):
    """The keys that each row sees, by the diagonals of an answer."""
    row, key = np.arange(block.tile)[:, None], np.arange(block.tile)
    return (answer["lower"] <= key - row) & (key - row <= answer["upper"])


@cocotb.test()
@cocotb.parametrize(stalls=[0.0, 0.5])
async def answers_as_golden_does(dut, stalls):
    pins, rng = Pins(dut, DESIGN), settings.generator(int(10 * stalls))
    await pins.start()
    for _ in range(REQUESTS):
        rule, block = draw(rng)
        asked = {
            "position": block.position,
            "key_base": block.key_base,
            "keys": block.keys - 1,
            "parameter": rule.parameter,
        }
        pins.set("request__payload", asked)
        pins.set("request__valid", 1)
        await pins.tick()
        assert pins.moves("request")
        pins.set("request__valid", 0)
        answers, cycles, waited = [], 0, 0
        while not (answers and answers[-1]["last"]):
            ready = rng.random() >= stalls
            pins.set("select__ready", ready)
            await pins.tick()
            cycles += 1
            assert not pins.raw("request__ready")
            if pins.moves("select"):
                answers.append(pins.get("select__payload"))
            elif not ready and pins.raw("select__valid"):
                waited += 1
        pins.set("select__ready", 0)
        kept = kept_tiles(rule, block)
        assert [answer["tile"] for answer in answers] == (kept or [0])
        # a cycle for each tile and for each before it
        last = kept[-1] if kept else -(-block.keys // block.tile) - 1
        if kept or block.first_key(0) <= block.last_position + rule.after:
            assert cycles - waited == last + 1
        for answer in answers:
            row, key = np.arange(block.tile)[:, None], np.arange(block.tile)
            expected = rule.sees(block.position + row, block.first_key(answer["tile"]) + key)
            assert np.array_equal(seen(block, answer), expected & bool(kept))
