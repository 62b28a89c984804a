"""Frozen networks, and what computes them.

Enters: a backbone's name and weights. Leaves: an engine that computes descriptors of pictures on
this processor as fast as their fidelity allows, and the names that the backbone was trained on.
"""
