"""The HTTP service on Ray Serve.

Enters: requests. Leaves: answers of the latest version of a database, and a page to search with.
"""
