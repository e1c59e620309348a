"""An error becomes one sentence and an exit code."""

from __future__ import annotations

import pytest

from noob_cloud.cli.errors import UsageError, as_json, exit_code, sentence
from noob_cloud.exceptions import (
    AuthenticationError,
    NoWorkerError,
    PlacementError,
    RemoteError,
    TaskFailedError,
    TaskNotFoundError,
    UnavailableError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskFailedError(), 1),
        (RemoteError(), 1),
        (ValueError("from a node"), 1),
        (UsageError(), 2),
        (PlacementError(), 2),
        (TaskNotFoundError(), 2),
        (AuthenticationError(), 2),
        (UnavailableError(), 3),
        (NoWorkerError(), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_says_what_kind_of_error(error: BaseException, code: int):
    """Failed, wrongly used, unreachable and interrupted have a code each."""
    assert exit_code(error) == code


def test_sentence_of_ours_stands_alone():
    """Our errors are sentences already."""
    assert sentence(TaskNotFoundError("No task 7.")) == "No task 7."


def test_sentence_of_a_node_has_type_and_place():
    """A node's own exception is named by its type, with where it was raised, and no traceback."""
    error = ValueError("too\nbright")
    error.add_note("in node denoise, epoch 3")
    error.add_note("Remote:\nTraceback (most recent call last):\n  File ...")

    assert sentence(error) == "ValueError: too bright (in node denoise, epoch 3; Remote)"
    assert sentence(KeyError("x")) == "KeyError: x"
    assert sentence(ZeroDivisionError()) == "ZeroDivisionError"


def test_json_has_class_message_and_data():
    """A program reads the class, the sentence and the error's own data."""
    error = TaskNotFoundError("No task 7.", task_id=7)

    assert as_json(error) == {"error": "TaskNotFoundError", "message": "No task 7.", "task_id": 7}
    assert "TaskNotFoundError: No task 7." in as_json(error, debug=True)["traceback"]
