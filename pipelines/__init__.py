"""Pipelines: wiring of steps, and what runs them. No imports here: they would load ZenML too early."""
