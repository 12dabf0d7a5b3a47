"""The training worker: runs the trainer and stores its adapter."""
