"""How data passes between steps, one module a kind, so that a step's cache depends on the kinds it uses."""
