"""A registered model at work: over HTTP, with the index and the texts that belong to it."""
