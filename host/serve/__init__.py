"""Language models behind the interface that OpenAI's clients know."""
