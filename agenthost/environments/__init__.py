"""Environments of agents' own: packages that only their workers see, made with uv, kept by what they are made of."""

from agenthost.environments.contents import environment_name, told
from agenthost.environments.folder import Kept, home, kept
from agenthost.environments.making import BUILD_LIMIT, Environments

__all__ = ["BUILD_LIMIT", "Environments", "Kept", "environment_name", "home", "kept", "told"]
