"""A toy tokenizer and a toy generator, as somebody would add them: this folder, a line in the registry, params."""
