"""Whose fault a failed import or hook is, in words: subject, reason, remedy, and a traceback of their frames alone."""

from __future__ import annotations

import difflib
import importlib
import os
import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import pluggy

from agenthost.errors import LoadError

MAX_REASON = 300
"""Characters of an exception's text in a one-line message; the traceback has the rest."""

MAX_FRAMES = 40
"""Frames of a traceback that are kept, the last ones: endless recursion has a thousand."""

MAX_LOOKED_AT = 1000
"""Frames that are looked at for them: recursion without a limit has millions."""

_MACHINERY = tuple(str(Path(file).parent) + os.sep for file in (__file__, importlib.__file__, pluggy.__file__))
_CLIENT = str(Path(__file__).parent / "client") + os.sep
"""The client is for agents too: one that waits for it is not to be blamed on the host."""


@dataclass(frozen=True, slots=True)
class Blame:
    """Who is named when something fails to load.

    `subject` is how a sentence names it (`agent 'billing' (acme-billing 2.1)`); `otherwise` is what an operator can do
    besides mending it (`set enabled = false under [agents.billing]`).
    """

    subject: str
    distribution: str | None = None
    version: str | None = None
    otherwise: str = ""

    def error(self, reason: str | BaseException, hint: str = "", *, failed: str = "failed to load") -> LoadError:
        """Make the `LoadError`: `{subject} {failed}: {reason}`, and as hint `{hint}, or {otherwise}`.

        An exception as `reason` gives its class and first line, a remedy where its class tells one, and its traceback,
        cut to the frames that are neither this package's nor importlib's nor pluggy's.
        """
        trace = None
        if isinstance(reason, BaseException):
            hint, trace, reason = hint or remedy(reason), cut_traceback(reason), summary(reason)
        advice = ", or ".join(part for part in (hint, self.otherwise) if part)
        return LoadError(
            f"{self.subject} {failed}: {reason}",
            hint=advice or None,
            distribution=self.distribution,
            version=self.version,
            traceback=trace,
        )


def summary(error: BaseException) -> str:
    """Return `ModuleNotFoundError: No module named 'torch'`: the class and the first line, at most 300 characters."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - an exception's own __str__ may fail in any way
        text = "(its text cannot be read)"
    line = encodable(text.splitlines()[0][:MAX_REASON]) if text else ""
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def encodable(text: str) -> str:
    """Return `text` with its lone surrogates (file names that are not UTF-8) spelled out, so that it can be sent."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def remedy(error: BaseException) -> str:
    """Return what can be done about an exception of this class, or an empty string."""
    match error:
        case ModuleNotFoundError(name=str(name)) if "." not in name:
            return f"pip install {name}"
        case ModuleNotFoundError(name=str(name)):
            return f"install what has module {name!r}"
        case ImportError() if "relative import" in str(error):
            return "import its neighbours by their plain names, or name it as package.module:attribute"
        case ImportError():
            return "see with `pip check` whether the installed versions fit together"
        case SyntaxError(filename=str(filename), lineno=int(line)):
            return f"mend {filename}, line {line}"
        case SystemExit() | KeyboardInterrupt():
            return "let it not end the process"
        case _:
            return ""


def plugin_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception that are neither this package's, nor importlib's, nor pluggy's."""
    return _cut(traceback.extract_tb(error.__traceback__))


def cut_traceback(error: BaseException) -> str:
    """Return an exception's traceback as text, its causes included, with the plugin's own frames alone.

    Where none is left, all are shown, but for a `SyntaxError`, which says itself where it is.
    """
    whole = traceback.TracebackException.from_exception(error, limit=-MAX_LOOKED_AT)
    chain: list[traceback.TracebackException | None] = [whole]
    for part in chain:
        if part is not None:
            kept = _cut(part.stack)
            if kept or isinstance(error, SyntaxError):
                part.stack = traceback.StackSummary.from_list(kept)
            chain += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(whole.format())


def running_frames(frame: FrameType) -> list[traceback.FrameSummary]:
    """Return the frames of a thread that is running, outermost first: the plugin's own, or all where there are none."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
    stack.reverse()
    ours = [
        place
        for place, one in enumerate(stack)
        if one.filename.startswith(_MACHINERY) and not one.filename.startswith(_CLIENT)
    ]
    inner = stack[ours[-1] + 1 :] if ours else stack
    return list((inner or stack)[-MAX_FRAMES:])


def _cut(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    theirs = [frame for frame in stack if not frame.filename.startswith(("<frozen importlib", *_MACHINERY))]
    return theirs[-MAX_FRAMES:]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a question that offers the nearest of `known`, or an empty string where none is near."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else ""


class Labelled(Protocol):
    """Something whose owner has a name and a version."""

    @property
    def label(self) -> str:
        """`acme-search 1.0`."""
        ...


def labels(claims: Iterable[Labelled]) -> str:
    """Return `acme-search 1.0, web-search 0.3`."""
    return ", ".join(claim.label for claim in claims)


def count(things: Sequence[object]) -> str:
    """Return how many there are as a sentence says it: `two`, `three`, `17`."""
    return {2: "two", 3: "three", 4: "four"}.get(len(things), str(len(things)))
