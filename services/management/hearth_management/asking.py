"""Whether engines still live, asked of them.

A report may outlive its engine, until its node looks at it again, or until the lease of a node that hangs has ended.

Only what proves it counts against a report: a port on which nobody listens any more, or an answer that says so. Silence
and all else that keeps this service from an engine do not; its node tells when silence lasts too long.
"""

import asyncio
from urllib.parse import urlsplit

import httpx
from hearth_contracts.deploy import DeploymentState, NodeReport
from hearth_contracts.errors import causes
from hearth_jobs import owners

ASK_SECONDS = 1.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def as_they_are(reports: list[NodeReport]) -> list[NodeReport]:
    """The reports, where those that say READY of an engine that has died say LOADING. Waits `ASK_SECONDS` at most."""
    asked = [node for node in reports if node.state is DeploymentState.READY and _may_ask(node)]
    if not asked:
        return reports
    dead = asyncio.run(_dead(asked))
    return [
        node.silenced("the engine has died; its node starts another") if node.node_id in dead else node
        for node in reports
    ]


async def _dead(nodes: list[NodeReport]) -> set[str]:
    """The ids of those whose engine is proven dead."""
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=ASK_SECONDS) as client:  # noqa: S501 (no secret)
        found = await asyncio.gather(*(_is_dead(client, node.health_url) for node in nodes))
    return {node.node_id for node, dead in zip(nodes, found, strict=True) if dead}


async def _is_dead(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return not (await client.get(url)).is_success
    except httpx.HTTPError as error:
        return any(isinstance(cause, ConnectionRefusedError) for cause in causes(error))


def _may_ask(node: NodeReport) -> bool:
    """Whether its address means the same here as to it: loopback does on its own machine alone."""
    if urlsplit(node.health_url).hostname not in _LOOPBACK:
        return bool(node.health_url)
    owner = owners.parse(node.node_id)
    return owner is not None and owners.lives(owner) is not None
