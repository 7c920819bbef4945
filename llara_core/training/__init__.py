"""The two training stages, on the Trainer of transformers."""
