"""How a call fails."""

from agenthost.client.failures import CallFailed, HostUnreachable


def test_a_failure_reads_as_what_is_wrong_and_keeps_what_finds_it():
    failed = CallFailed("no", code="forbidden", status=403, correlation_id="c", run_id="r")
    assert str(failed) == failed.detail == "no"
    assert (failed.code, failed.status, failed.correlation_id, failed.run_id) == ("forbidden", 403, "c", "r")


def test_a_host_that_is_not_there_is_a_failed_call_too():
    assert issubclass(HostUnreachable, CallFailed)
