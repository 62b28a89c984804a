"""Image files, wherever they lie.

Enters: a folder, glob, archive, table or list of addresses. Leaves: `ListedImage` rows, or
tables of them, file contents, and pixels as a person sees them, ready for a network.
"""
