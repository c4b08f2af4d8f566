"""The broker: one per user; owns the journal and outlives kernels and the Jupyter server."""
