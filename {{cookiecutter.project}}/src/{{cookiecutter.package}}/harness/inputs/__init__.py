"""Requests: the same decoding in pipeline and service."""
