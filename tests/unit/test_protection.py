"""A worker asks the ECS agent, as it answers in a container, not to be stopped while it works."""

from __future__ import annotations

import pytest
from tests.flow.ecs_agent import Agent

from noob_cloud.worker.protection import Protection


@pytest.fixture
def agent():
    made = Agent()
    yield made
    made.close()


class Work:
    held = False

    def __call__(self):
        return self.held


ON = ("/api/abc/task-protection/v1/state", {"ProtectionEnabled": True, "ExpiresInMinutes": 20})
OFF = ("/api/abc/task-protection/v1/state", {"ProtectionEnabled": False})


def test_protected_from_the_first_lease_until_idle(agent):
    """It is asked for once, renewed before it ends, and given up when nothing was held a while."""
    work = Work()
    protection = Protection(agent.url, work)
    protection.look(0.0)
    assert agent.asked == []

    work.held = True
    protection.look(1.0)
    protection.look(2.0)
    assert agent.asked == [ON]
    protection.look(302.0)
    assert agent.asked == [ON, ON]

    work.held = False
    protection.look(303.0)
    assert protection.on  # the next task may come at once
    protection.look(308.0)
    protection.look(309.0)
    assert agent.asked == [ON, ON, OFF]
    assert not protection.on


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"failure": {"Arn": "arn", "Reason": "DEPLOYMENT_BLOCKED"}}),
        (400, {"error": {"Arn": "arn", "Code": "AccessDeniedException", "Message": "no"}}),
        (500, {"requestID": "1"}),
    ],
)
def test_a_refusal_is_logged_once_and_asked_again_later(agent, caplog, answer):
    agent.answers += [answer, answer]
    work = Work()
    work.held = True
    protection = Protection(agent.url, work)

    for now in (0.0, 1.0, 29.0, 30.0, 31.0):
        protection.look(now)
    assert agent.asked == [ON, ON]
    assert len(caplog.records) == 1
    assert not protection.on

    protection.look(61.0)
    assert protection.on


def test_an_agent_that_is_away_ends_nothing(caplog):
    work = Work()
    work.held = True
    protection = Protection("http://127.0.0.1:1", work)

    protection.look(0.0)
    protection.stop()

    assert not protection.on
    assert "does not protect this task" in caplog.text


def test_stop_gives_the_protection_up(agent):
    work = Work()
    work.held = True
    protection = Protection(agent.url, work)
    protection.look(0.0)

    protection.stop()

    assert agent.asked == [ON, OFF]


def test_outside_of_ecs_there_is_none():
    assert Protection.of_environment(Work(), {}) is None
    assert Protection.of_environment(Work(), {"ECS_AGENT_URI": "http://a/api/b"}) is not None
