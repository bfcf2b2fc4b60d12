"""From real operators to integer ones: scales from calibration, one file an operator.

Only this step approximates. Rows are quantised at run time, so static scales only place values on
their int16 (or, for queries, keys and values, int8) grids.
"""

from transept.host.front.quantise.region import Quantiser

__all__ = ["Quantiser"]
