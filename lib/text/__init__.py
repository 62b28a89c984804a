"""Text to embeddings (se_text).

Enters: a caption, or a query with its signs and weights. Leaves: a unit vector in the space of the
word vectors, and each word's share of it.
"""
