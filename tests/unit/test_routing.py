"""A task goes only where its tags, its timeout and its memory allow, or is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud.coordinator.routing import Pool, Router
from noob_cloud.exceptions import RoutingError

LAMBDA = Pool("lambda", max_seconds=900, max_memory=10_240)
FARGATE = Pool("fargate", frozenset({"x86"}), max_memory=122_880)
GPU = Pool("gpu", frozenset({"gpu", "cuda"}), accepts_untagged=False)
ROUTER = Router((LAMBDA, FARGATE, GPU))


def tags(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("asked", "pools", "required"),
    [
        ({}, ("lambda", "fargate"), ()),
        ({"seconds": 900}, ("lambda", "fargate"), ()),
        ({"seconds": 901}, ("fargate",), ("noob:over-900s", "noob:untagged")),
        ({"memory": 20_000}, ("fargate",), ("noob:over-10240mib", "noob:untagged")),
        ({"affinity": tags("gpu", "tpu")}, ("gpu",), ()),
        ({"required": tags("gpu", "cuda"), "seconds": 5000}, ("gpu",), ("noob:over-900s",)),
        ({"affinity": tags("x86", "gpu")}, ("fargate", "gpu"), ()),
        ({"affinity": tags("x86"), "required": tags("x86")}, ("fargate",), ()),
    ],
)
def test_where_a_task_may_run(asked, pools, required):
    """The pools with its tags that allow its time and its memory, in the order of the settings."""
    route = ROUTER.route(**asked)
    assert route.pools == pools
    assert route.required == frozenset(required)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"required": tags("tpu")}, "No pool offers all of tpu: lambda has none; fargate has x86;"),
        ({"affinity": tags("tpu")}, "No pool offers any of tpu"),
        ({"required": tags("x86", "gpu")}, "No pool offers all of gpu, x86"),
        ({"memory": 500_000}, "memory=500000 MiB: lambda allows 900 s and 10240 MiB; fargate"),
        ({"affinity": tags("noob:over-900s")}, "begin with 'noob:' are ours"),
    ],
)
def test_what_has_no_pool_is_refused_in_words(asked, said):
    """The error says what was asked for, and what each pool has."""
    with pytest.raises(RoutingError, match=said):
        ROUTER.route(**asked)


def test_a_gpu_only_deployment_says_that_nobody_takes_untagged_tasks():
    """Without tags a task is no GPU pool's unless a setting says so."""
    with pytest.raises(RoutingError, match="to take tasks without tags: gpu has cuda, gpu"):
        Router((GPU,)).route()


def test_what_the_workers_of_a_pool_offer():
    """Its tags, and one for each limit of another pool that is below its own."""
    assert ROUTER.offered("lambda") == tags("noob:untagged")
    assert ROUTER.offered("fargate") == tags(
        "x86", "noob:untagged", "noob:over-900s", "noob:over-10240mib"
    )
    assert ROUTER.offered("gpu") == tags(
        "gpu", "cuda", "noob:over-900s", "noob:over-10240mib", "noob:over-122880mib"
    )


def test_pools_are_told_apart_and_keep_off_our_tags():
    """Names are unique, and nobody offers what the coordinator gives."""
    with pytest.raises(ValueError, match="Two pools have one name"):
        Router((LAMBDA, LAMBDA))
    with pytest.raises(ValueError, match="begin with 'noob:' are ours"):
        Pool("own", tags("noob:drive"))


names = st.frozensets(st.sampled_from(["a", "b", "c"]))
limits = st.sampled_from([10.0, 900.0, 3600.0, float("inf")])
pools = st.builds(
    Pool, st.uuids().map(str), names, st.booleans(), max_seconds=limits, max_memory=limits
)


@given(st.lists(pools, max_size=4), names, names, st.floats(0, 5000), st.floats(0, 5000))
def test_the_tags_of_a_route_let_in_exactly_its_pools(found, affinity, required, seconds, memory):
    """Claims look at tags only: with those of the route they decide as the route does."""
    router = Router(tuple(found))
    try:
        route = router.route(affinity, required, seconds, memory)
        chosen, more = set(route.pools), route.required
    except RoutingError:
        chosen, more = set(), None
    for pool in found:
        offered = router.offered(pool.name)
        fits = pool.max_seconds >= seconds and pool.max_memory >= memory
        if more is None:
            assert not (
                fits
                and (pool.accepts_untagged if not affinity | required else required <= pool.tags)
                and (not affinity or affinity & pool.tags)
            )
            continue
        needed = required | more
        claims = needed <= offered and (not affinity or bool(affinity & offered))
        if not affinity and not needed:  # as the queue sees it
            claims = pool.accepts_untagged
        assert claims == (pool.name in chosen)


def test_a_task_over_several_limits_requires_the_largest():
    """What offers it offers the smaller ones as well: one tag, so that there are few lanes."""
    sizes = Router(tuple(Pool(f"lambda-{x}", max_memory=x) for x in (1024, 2048, 4096)))
    route = sizes.route(memory=3000)
    assert route.pools == ("lambda-4096",)
    assert route.required == tags("noob:over-2048mib", "noob:untagged")


def test_a_worker_of_a_pool_may_claim_what_the_pool_offers():
    """It says the pool alone; of another tag it only has what it says."""
    assert ROUTER.claimable(tags("noob:pool-fargate"), True) == (
        ROUTER.offered("fargate"),
        True,
        "fargate",
    )
    assert ROUTER.claimable(tags("noob:pool-gpu"), True)[1:] == (False, "gpu")
    assert ROUTER.claimable(tags("noob:pool-moon"), True) == (tags("noob:pool-moon"), True, None)
    assert ROUTER.claimable(tags("x86"), False) == (tags("x86"), False, None)


def test_a_driver_of_a_pool_drives_the_runs_of_its_tags():
    """`noob:drive+TAG` for each tag of the pool, besides what it asks for."""
    asked = tags("noob:drive", "noob:drive+noob:pool-gpu")
    found, untagged, pool = ROUTER.claimable(asked, False)
    assert found >= asked | tags("noob:drive+gpu", "noob:drive+cuda")
    assert (untagged, pool) == (False, "gpu")


def test_a_pool_that_does_not_drive_is_offered_no_run():
    """Its workers ask, as all do; runs wait for those that may, or are refused if nobody may."""
    dear = Pool("dear", tags("gpu"), drives=False)
    router = Router((LAMBDA, dear))
    asked = tags("noob:drive", "noob:drive+noob:pool-dear")
    assert router.claimable(asked, False) == (frozenset(), False, "dear")
    router.check_driven(frozenset())
    with pytest.raises(RoutingError, match="No pool drives runs with the tags gpu"):
        router.check_driven(tags("gpu"))


def test_limits_that_no_pool_has_any_more_are_the_largest_pools():
    """A queue outlives its pools: what was over a limit that is gone is not left lying."""
    router = Router((LAMBDA, FARGATE), tags("noob:over-600s", "noob:over-50000mib", "noob:over-x"))
    assert "noob:over-600s" in router.offered("fargate")
    assert "noob:over-600s" not in router.offered("lambda")
    assert "noob:over-50000mib" in router.offered("fargate")
    assert "noob:over-x" not in router.offered("fargate")


@given(st.lists(pools, max_size=4), names, names)
def test_who_may_claim_a_lane_is_who_offers_its_tags(found, affinity, required):
    """The capacity loop asks by lanes what claims decide by workers."""
    router = Router(tuple(found))
    for pool in found:
        offered = router.offered(pool.name)
        claims = required <= offered and (not affinity or bool(affinity & offered))
        if not affinity and not required:
            claims = pool.accepts_untagged
        assert claims == (pool.name in router.admitting(affinity, required))
