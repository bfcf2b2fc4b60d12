"""Language models: their files, their tokens, and text that they go on with."""
