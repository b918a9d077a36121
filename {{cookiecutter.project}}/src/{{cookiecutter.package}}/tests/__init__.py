"""Tests of what you edit: configuration, data, models, pipeline, service. The harness is tested by the template."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
