"""What a model answers, and how that is measured: one module a kind of target."""
