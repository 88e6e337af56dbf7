"""Items of a response's output."""

from __future__ import annotations

from agenthost.protocols.openai import items

TOLD = {"tool": "search", "tool_call_id": "c", "arguments": {"q": None}}


def test_a_tools_result_is_text_and_its_error_is_an_error() -> None:
    call = items.tool_call("mcp_1", "echo", TOLD)
    assert (call["status"], call["arguments"], call["server_label"]) == ("in_progress", '{"q":null}', "echo")
    assert items.answered(call, {"result": "found"})["output"] == "found"
    assert items.answered(call, {"result": {"a": [1]}})["output"] == '{"a":[1]}'
    assert items.answered(call, {"result": None})["output"] == "null"
    failed = items.answered(call, {"error": "not found", "result": None})
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert failed["error"] == {
        "type": "mcp_tool_execution_error",
        "content": [{"type": "text", "text": "not found"}],
    }


def test_a_question_has_its_arguments_once_it_is_whole() -> None:
    asked = {"interrupt_id": "q", "question": "?"}
    assert items.question("r", "fc_1", "in_progress", asked)["arguments"] == ""
    assert items.question("r", "fc_1", "completed", asked)["arguments"] == '{"question":"?"}'


def test_an_approval_request_names_the_tool_and_its_arguments() -> None:
    asked = {"interrupt_id": "q", "metadata": {"tool": "rm", "arguments": {"path": "/"}}}
    assert items.approval("r", "echo", asked) == {
        "type": "mcp_approval_request",
        "id": "mcpr_r_q",
        "server_label": "echo",
        "name": "rm",
        "arguments": '{"path":"/"}',
    }
