"""The only public port: control plane and token plane."""
