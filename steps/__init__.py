"""Steps: thin adapters between ZenML and ``llara_core``. No imports here: the step cache tracks modules."""
