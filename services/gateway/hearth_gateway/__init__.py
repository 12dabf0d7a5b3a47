"""The only public port: control plane and token plane."""

from hearth_gateway.compiled import use

use(__path__)
