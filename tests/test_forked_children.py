"""A forked child closes what it must not keep; its host keeps it."""

from __future__ import annotations

import os
import subprocess
import sys

FORKS = """
import gc, os, socket
from agenthost.forked_children import close_in_children

kept, given_up, forgotten = (socket.socket() for _ in range(3))
close_in_children(given_up)
close_in_children(forgotten)
forgotten.close()
del forgotten
gc.collect()
again = socket.socket()  # has the number of the one that is gone, and is not closed for it
number = given_up.fileno()
child = os.fork()
if not child:
    is_open = [os.path.exists(f"/proc/self/fd/{one}") for one in (kept.fileno(), again.fileno(), number)]
    os._exit(is_open != [True, True, False])
_child, status = os.waitpid(child, 0)
assert status == 0, status
assert given_up.fileno() > 0 and os.fstat(given_up.fileno())
"""


def test_a_child_has_none_of_what_was_to_be_closed_and_the_host_has_all_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
