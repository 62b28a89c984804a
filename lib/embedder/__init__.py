"""Descriptors to embeddings (se_image): one dense layer, M and b.

Enters: descriptors and captions. Leaves: an `Embedder` with its text side, fitted and judged on
images that the fit did not see.
"""
