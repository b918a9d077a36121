"""The model registry, and the gates that a version must pass to become champion."""
