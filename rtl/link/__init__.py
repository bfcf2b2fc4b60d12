"""A serial link in place of a processor, and memory on the chip in place of DRAM."""
