"""What the client's logic and its drivers say to each other."""

from agenthost.client.steps import ConnectionBroke, Left


def test_a_connection_that_broke_says_whether_anybody_had_taken_it_up():
    assert not ConnectionBroke("ReadError").unreachable
    assert ConnectionBroke("ConnectError", unreachable=True).why == "ConnectError"


def test_no_handler_of_errors_takes_leaving_for_one():
    assert not issubclass(Left, Exception)
