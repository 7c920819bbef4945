"""Text in: formats, rules, passages and the built-in collection."""
