"""Axes of matplotlib that only write down what is drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

__all__ = ["Drawing"]


class Drawing:
    """A line for each call, floats with six digits, compared word by word; width: of its figure, in
    inches, of which it fills half."""

    def __init__(self, width=10.0, lines=None, prefix=""):
        self.lines = [] if lines is None else lines
        self._prefix, self._width = prefix, width

    def __repr__(self):
        return "\n".join(self.lines)

    def __eq__(self, text):
        return repr(self).split() == text.split()

    __hash__ = None

    def __getattr__(self, name):
        if name in ("xaxis", "yaxis"):
            return Drawing(lines=self.lines, prefix=f"{name}.")
        return lambda *arguments, **options: self.lines.append(
            f"{self._prefix}{name}({', '.join([*map(_text, arguments), *_options(options)])})"
        )

    def get_figure(self):
        figure = Drawing(lines=self.lines, prefix="figure.")
        figure.get_figwidth = lambda: self._width
        return figure

    def get_position(self):
        return SimpleNamespace(width=0.5)


def _options(options):
    return [f"{name}={_text(value)}" for name, value in options.items()]


def _text(value):
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return f"{{{', '.join(map(_text, value))}}}"
    if isinstance(value, list | tuple | range | np.ndarray):
        return f"[{' '.join(map(_text, value))}]"
    return str(value)
