"""Whether a model fits on this machine, for serving and for training: pure arithmetic on what its files say of it."""
