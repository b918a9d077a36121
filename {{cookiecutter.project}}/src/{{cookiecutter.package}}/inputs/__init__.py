"""How a model is asked: one module for pictures or for tables, shared by the pipeline and the service."""
