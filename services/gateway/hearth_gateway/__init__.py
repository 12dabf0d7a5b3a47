"""The only public port: control plane and token plane."""

from hearth_gateway.compiled import prefer_compiled

prefer_compiled(__path__)
