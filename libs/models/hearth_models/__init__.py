"""A model's files on their way: from the hub or S3 into a model store, and from there to S3."""
