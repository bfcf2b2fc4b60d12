"""Operators to tasks, one file each."""
