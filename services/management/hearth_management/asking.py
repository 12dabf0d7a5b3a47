"""Whether engines still live, asked of them.

A report may outlive its engine, until its node looks at it again, or until the lease of a node that hangs has ended.

Only what proves it counts against a report, a refused connection or a refusal. Silence does not: an engine may be busy,
and a network may keep this service from it; its node tells when silence lasts too long.
"""

import asyncio

import httpx
from hearth_contracts.deploy import DeploymentState, NodeReport

ASK_SECONDS = 1.0


def as_they_are(reports: list[NodeReport]) -> list[NodeReport]:
    """The reports, where those that say READY of an engine that has died say LOADING. Waits `ASK_SECONDS` at most."""
    asked = [node for node in reports if node.state is DeploymentState.READY and node.health_url]
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
    except httpx.TimeoutException:
        return False
    except httpx.TransportError:
        return True
