"""Delivery: what is served, and how a release takes its place."""
