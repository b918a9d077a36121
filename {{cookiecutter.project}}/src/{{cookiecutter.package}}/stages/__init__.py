"""Pipeline stages: one module for each stage of dvc.yaml."""
