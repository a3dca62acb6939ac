"""Serving: HTTP, dynamic batching, load control, the page. Needs the extra `serve`."""
