"""Semantic image search: descriptors, the text-to-image embedding space, and exact search."""
