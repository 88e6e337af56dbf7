"""agents.toml: what it may say (`keys`), and reading it into one frozen `Config` or a list of all that is wrong."""

from agenthost.config.keys import (
    AgentConfig,
    AuthConfig,
    Config,
    EnvironmentConfig,
    KeyConfig,
    PluginsConfig,
    ServerConfig,
    StoreConfig,
)
from agenthost.config.loading import config_path, default_config, load_config, load_environments
from agenthost.config.reference import reference

__all__ = [
    "AgentConfig",
    "AuthConfig",
    "Config",
    "EnvironmentConfig",
    "KeyConfig",
    "PluginsConfig",
    "ServerConfig",
    "StoreConfig",
    "config_path",
    "default_config",
    "load_config",
    "load_environments",
    "reference",
]
