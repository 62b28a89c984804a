"""What draws the pictures of the documents, and examples that the documents name."""
