"""What a run took."""

from __future__ import annotations

from agenthost.protocols.openai.usage import Tally, chat_usage, response_usage


def test_it_is_summed_and_told_in_both_forms() -> None:
    tally = Tally()
    tally.add({"type": "usage", "input_tokens": 5, "output_tokens": 3, "cached_tokens": 2, "reasoning_tokens": 1})
    tally.add({"type": "usage", "input_tokens": 1})
    assert chat_usage(tally) == {
        "prompt_tokens": 6,
        "completion_tokens": 3,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert response_usage(tally) == {
        "input_tokens": 6,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 9,
    }
