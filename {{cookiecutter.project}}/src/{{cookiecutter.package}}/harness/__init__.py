"""The machinery of this project, renewed by `cruft update`: edit what lies above it instead."""
