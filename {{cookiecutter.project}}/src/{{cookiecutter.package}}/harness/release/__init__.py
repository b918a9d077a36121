"""The model registry and its promotion gates."""
