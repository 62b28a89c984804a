"""Images to descriptors.

Enters: listed images and a frozen backbone. Leaves: `descriptors/*.parquet` and
`failures/*.parquet` of a database, exactly one row for every image.
"""
