"""Text from language models: sequences on devices, step by step."""
