"""How much the tests see: small faults planted in the source, one at a time.

``python -m mutants --seed 1 --count 200`` draws faults, runs the tests that can see each, and says
which were caught. A fault that no test sees is either a missing test, or changes nothing; the
latter are listed, with reasons, in ``equivalents.toml``.
"""
