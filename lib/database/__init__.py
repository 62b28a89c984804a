"""Databases of embedded images: numbered versions of plain Parquet files.

Enters: descriptors and an embedder. Leaves: a collection that is searched in this process or over
the nodes of a cluster.
"""
