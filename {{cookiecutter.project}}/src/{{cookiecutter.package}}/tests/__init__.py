"""Tests of your files; the template tests the harness."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
