"""What the host itself registers through the hooks of plugins: its authenticator and its placements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agenthost.api_keys import ApiKeys, keys_of
from agenthost.config import Config
from agenthost.encoding import encode_event
from agenthost.hookspecs import Adapter, RegisterAuthenticator, RegisterPlacement, hookimpl
from agenthost.importing import Importer
from agenthost.placement.authors import DEV, AuthorsPlacement
from agenthost.placement.in_process import InProcess
from agenthost.placement.process import Interpreter, ProcessPlacement


class BuiltinHooks:
    """The host's own authenticator and placements, registered through the same door as everybody's."""

    def __init__(
        self,
        importer: Importer,
        adapters: Callable[[], Sequence[Adapter]],
        interpreter: Interpreter,
        *,
        dev: bool,
    ) -> None:
        self._importer = importer
        self._adapters = adapters
        self._interpreter = interpreter
        self._dev = dev

    @hookimpl
    def register_authenticators(self, register: RegisterAuthenticator, config: Config) -> None:
        """Register `api-keys`."""
        register("api-keys", ApiKeys(keys_of(config)))

    @hookimpl
    def register_placements(self, register: RegisterPlacement, config: Config) -> None:
        """Register `in-process` and `process`, and on a host that only its author can reach `dev`."""
        in_process = InProcess(self._importer, self._adapters, encode_event)
        register("in-process", in_process)
        register("process", ProcessPlacement(config.base_dir, config.plugins.block, self._interpreter))
        if self._dev:
            whole = ProcessPlacement(config.base_dir, config.plugins.block, whole_environment=True)
            register(DEV, AuthorsPlacement(config.base_dir, whole, in_process))
