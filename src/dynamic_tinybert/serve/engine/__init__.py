"""The engine of the server: batches, load control, costs; it knows nothing of HTTP."""
