"""Which device runs which part of a graph: measured costs, the plan of least time, and its run."""
