"""Where an agent runs: in the host, in processes of its own, or where a plugin says; the same errors everywhere."""
