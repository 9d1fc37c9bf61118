"""The verbs: command line, data preparation, backend environments, topology, launch, run directory."""
