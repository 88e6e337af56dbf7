"""What an environment is made of, and the name that this gives it: another content is another environment."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePath

from agenthost.agents import EnvironmentSpec
from agenthost.config.redaction import Redactor
from agenthost.distributions import normalise

WITHOUT_HOST = 'agenthost ; python_version < "0"\npluggy ; python_version < "0"\n'
"""Requirements that uv puts in the place of what packages say: a worker has the host's own copies of these two."""

MOST = 4
"""Requirements that are named where there are more."""

_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_MARKER = re.compile(r"\s;\s.*")
_EXTRAS = re.compile(r"\[[A-Za-z0-9_.,\s-]*\]$")


def environment_name(spec: EnvironmentSpec) -> str:
    """Return `acme-billing-1f3a5c7e9b2d`: a word of what it is made of, and a digest of all that it is made of.

    That is the requirements or the lock file, the contents of files they name by path (of a folder: what says how it
    is built), the Python that the host runs on, and what uv is told to leave out. Empty for a `venv`. Raises `OSError`
    where a lock cannot be read.
    """
    if spec.venv is not None:
        return ""
    content = [WITHOUT_HOST, sys.implementation.cache_tag, sys.base_prefix, sysconfig.get_platform()]
    if spec.lock is not None:
        text = Path(spec.lock).read_bytes()
        word = PurePath(spec.lock).stem
        content += ["lock", hashlib.sha256(text).hexdigest()]
    else:
        word = _word(spec.requirements[0])
        content += ["requirements", *spec.requirements, *_local(spec)]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return f"{word}-{digest[:12]}"


def told(spec: EnvironmentSpec) -> str:
    """Return what was asked for, short and without passwords: `acme-billing==2.1, six`, or `lock = "x.lock"`."""
    for key, path in (("lock", spec.lock), ("venv", spec.venv)):
        if path is not None:
            within = PurePath(path)
            shown = within.relative_to(spec.folder) if within.is_relative_to(spec.folder) else within
            return f'{key} = "{shown}"'
    first = ", ".join(spec.requirements[:MOST])
    rest = len(spec.requirements) - MOST
    return Redactor().text(first) + (f" and {rest} more" if rest > 0 else "")


def _word(requirement: str) -> str:
    """What people may know a requirement by; it also stands in a path."""
    text = _path_text(requirement) or requirement
    found = re.match(r"[A-Za-z0-9_-]+", PurePath(text).name)
    return normalise(found[0])[:40].strip("-") if found else "environment"


def _local(spec: EnvironmentSpec) -> Iterator[str]:
    """Digests of files that requirements name by their path: a wheel that was built again is another wheel."""
    for requirement in spec.requirements:
        text = _path_text(requirement)
        path = Path(spec.folder, text)
        files = [path / name for name in _BUILD_FILES] if path.is_dir() else [path]
        for file in files if text else ():
            if file.is_file():
                with file.open("rb") as opened:
                    yield hashlib.file_digest(opened, "sha256").hexdigest()


def _path_text(requirement: str) -> str:
    """The path in `./x`, `-e ./x[extra]` or `acme @ file:///x ; marker`; empty where a requirement names none."""
    text = _MARKER.sub("", requirement.removeprefix("-e ").strip())
    text = text.rpartition(" @ ")[2].removeprefix("file://").strip()
    text = _EXTRAS.sub("", text)
    return text if "://" not in text and ("/" in text or text.startswith(".") or text.endswith(".whl")) else ""
