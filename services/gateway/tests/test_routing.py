"""Which engine is chosen where there are very many."""

from collections import Counter

from hearth_contracts.deploy import Task
from hearth_gateway.routing import COMPARED, Route, Router


def route(engines: int) -> Route:
    return Route(Task.GENERATE, tuple(f"http://10.0.0.1:{port}" for port in range(engines)), None, "default")


def test_of_few_engines_all_are_compared_and_the_most_idle_comes_first() -> None:
    router, few = Router(), route(COMPARED)
    for url in few.urls[:-1]:
        router.begin(url)
    assert router.choices(few)[0] == few.urls[-1]
    assert sorted(router.choices(few)) == sorted(few.urls)


def test_of_many_engines_each_gets_its_share_though_few_are_compared_for_a_request() -> None:
    router, many = Router(), route(100)
    for _ in range(1000):
        choices = router.choices(many)
        assert len(set(choices)) == COMPARED
        router.begin(choices[0])
    taken = Counter({url: router._outstanding[url] for url in many.urls})
    assert sum(taken.values()) == 1000
    assert 8 <= min(taken.values()) <= max(taken.values()) <= 12


def test_of_many_engines_one_that_refused_comes_last() -> None:
    router, many = Router(), route(100)
    for url in many.urls[:99]:
        router.shun(url)
    firsts = {router.choices(many)[0] for _ in range(100)}
    assert many.urls[99] in firsts
    assert all(router.choices(many)[-1] != many.urls[99] for _ in range(20))
