"""From a torch module to quantised graphs: export, patterns, regions, scales."""
