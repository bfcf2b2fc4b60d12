"""Blocks by high-level synthesis: components with the ports and latency of those they replace.

Their bodies are Verilog modules that XLS makes (``transept.hls``), so that they exist in Verilog
alone, not in Amaranth's simulator.
"""
