"""Exact top k by inner product.

Enters: (N, d) unit embeddings and (Q, d) queries. Leaves: rows and scores of the k best, the same
for every way of computing them.
"""
