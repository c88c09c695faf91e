"""Every method by name: what it needs, what it costs, and one way to run it."""
