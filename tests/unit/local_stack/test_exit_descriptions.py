import pytest

from local_stack.processes.child import describe_exit


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-64, "signal SIGRTMAX"), (-99, "signal 99")],
)
def test_says_in_words_how_a_process_ended(code: int, words: str) -> None:
    assert describe_exit(code) == words
