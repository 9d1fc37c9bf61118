"""The machine: environments, child processes, topology, and what explains their failures."""
