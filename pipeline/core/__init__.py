"""The foundation: geometry, configuration, errors, logging. No torch, no I/O formats."""
