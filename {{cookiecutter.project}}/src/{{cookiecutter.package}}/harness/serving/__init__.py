"""Parts of the HTTP service."""
