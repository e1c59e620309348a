"""A worker in a container of ECS is not stopped while it works."""

from __future__ import annotations

import signal

import noob_cloud_testfunctions as functions
import pytest
from tests.conformance.servers import TOKEN, coordinator, worker_server

from noob_cloud.deployment import Deployment
from noob_cloud.executors import ServerlessExecutor

from .coordinator_processes import until
from .ecs_agent import Agent

ON = {"ProtectionEnabled": True, "ExpiresInMinutes": 20}
OFF = {"ProtectionEnabled": False}


@pytest.fixture
def agent(monkeypatch):
    made = Agent()
    monkeypatch.setenv("ECS_AGENT_URI", made.url)
    yield made
    made.close()


def test_protected_while_it_holds_a_task(agent, tmp_path):
    """The agent is asked once the first task is held, and told when the worker leaves."""
    with coordinator(tmp_path) as (url, _), worker_server(tmp_path, coordinator=url) as (_, worker):
        with ServerlessExecutor(Deployment.at(url, TOKEN)) as executor:
            assert agent.asked == []
            future = executor.submit(functions.nap, 2, "done")
            until(lambda: agent.asked)
            assert not future.done()
            assert future.result(60) == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0

    assert [said for _, said in agent.asked] == [ON, OFF]
    assert {path for path, _ in agent.asked} == {"/api/abc/task-protection/v1/state"}


def test_an_agent_that_refuses_costs_no_task(agent, tmp_path):
    """A refusal is logged; the task is run."""
    agent.answers += [(400, {"error": {"Code": "AccessDeniedException", "Message": "no"}})] * 9
    with coordinator(tmp_path) as (url, _), worker_server(tmp_path, "w", coordinator=url):
        with ServerlessExecutor(Deployment.at(url, TOKEN)) as executor:
            assert executor.submit(functions.nap, 1, "done").result(60) == "done"
        until(lambda: agent.asked)
    assert "ECS does not protect this task: 400" in (tmp_path / "worker-w.log").read_text()
