"""What user code holds while a span runs, and what runs on its thread."""
