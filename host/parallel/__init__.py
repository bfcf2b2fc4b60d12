"""One graph on several processors: columns and heads shared out, or sequences."""
