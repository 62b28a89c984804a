"""Queries to results.

Enters: queries in words, images, or both, one or a million. Leaves: ranked images, why each has
its score, and files and pages that show them.
"""
