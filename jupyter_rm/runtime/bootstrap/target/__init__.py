"""Text that runs on the target, with nothing but its Python's own library; nothing here is imported by this package."""
