"""The model registry and its gates."""
