"""Where an agent runs: in the host's process, or (a plugin, a later step) elsewhere; the same errors everywhere."""
