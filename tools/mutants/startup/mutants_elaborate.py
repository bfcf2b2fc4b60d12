"""Elaborates the accelerator of some configurations: prints what their Verilog is, and which
functions made it.

python mutants_elaborate.py NAME...: a JSON object {"texts": {NAME: digest}, "calls": [...]}
"""

import hashlib
import json
import os
import sys

import mutants_tracer


def main() -> None:
    """Elaborate, or find in the cache, which then calls nothing."""
    calls = mutants_tracer.Calls(os.environ["MUTANTS_ROOT"])
    calls.start()
    from transept.golden.config import preset
    from transept.sim.build import accelerator_verilog

    texts = {name: accelerator_verilog(preset(name)) for name in sys.argv[1:]}
    calls.stop()
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    print(json.dumps({"texts": digests, "calls": sorted(calls.names())}))


if __name__ == "__main__":
    main()
