"""Which nodes of the cluster are there."""

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_SECONDS = 15.0


@ray.remote(num_cpus=0)
def _answer() -> None:
    """Ray itself takes some time to see that a node has gone; what answers has not."""


def room(each: dict[str, float]) -> int:
    """For how many processes that take `each` the nodes that answer would have room, were nothing else on them."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    answers = {
        _answer.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in alive
    }
    answered, _ = ray.wait(list(answers), num_returns=len(answers), timeout=ANSWER_SECONDS)
    return sum(_holds(answers[each_answer]["Resources"], each) for each_answer in answered if _is_there(each_answer))


def _is_there(answer: "ray.ObjectRef[None]") -> bool:
    try:
        ray.get(answer)
    except ray.exceptions.RayError:
        return False
    return True


def _holds(resources: dict[str, float], each: dict[str, float]) -> int:
    return min(int(resources.get(kind, 0) // amount) for kind, amount in each.items())
