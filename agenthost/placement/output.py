"""What a worker writes to stdout and stderr, in the host's log under the agent's name: a record a line, capped."""

from __future__ import annotations

import logging
import time

from agenthost.placement.allowance import LONGEST, Allowance, cut

FLOOD = 4 << 20
"""Bytes a second that are read; an agent that writes more waits for its own output to be taken."""


class Output:
    """Takes bytes as they come, from one thread, and logs their lines."""

    def __init__(self, agent: str) -> None:
        self._extra = {"agent": agent}
        self._log = logging.getLogger(f"agenthost.agent.{agent}")
        self._allowance = Allowance()
        self._rest = b""
        self._read, self._since = 0, time.monotonic()
        self.last = ""
        """The last line that was not empty."""

    def hear(self, data: bytes) -> None:
        """Log the lines that are whole, as far as they may be; b"" is the end, where the rest is a line as well."""
        text = self._rest + data
        if text and (not data or (len(text) > LONGEST and b"\n" not in text)):
            text += b"\n"
        whole = text.count(b"\n")
        may = self._allowance.take(whole)
        *lines, rest = text.split(b"\n", may)
        self._rest = rest if may == whole else rest[rest.rfind(b"\n") + 1 :]
        for line in lines:
            if line.strip():
                self.last = cut(line.decode(errors="backslashreplace").rstrip())
                self._log.info("%s", self.last, extra=self._extra)
        self._tell(at_end=not data)
        self._hold_back(len(data))

    def _tell(self, *, at_end: bool) -> None:
        left_out = self._allowance.left_out(at_end=at_end)
        if left_out:
            self._log.warning("%s", left_out, extra=self._extra)

    def _hold_back(self, size: int) -> None:
        """Wait where more has come than may: reading costs the host something, also what is not logged."""
        now = time.monotonic()
        if now - self._since > 1.0:
            self._read, self._since = 0, now
        self._read += size
        early = self._since + self._read / FLOOD - now
        if early > 0.01:
            time.sleep(early)
