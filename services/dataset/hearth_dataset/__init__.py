"""Conversations in S3: validated while they stream."""
