"""From a quantised graph to a program: cut, lower, order, place, emit, link."""
