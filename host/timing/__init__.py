"""Real fabric: mapped netlists, their delays, static timing, and place and route."""
