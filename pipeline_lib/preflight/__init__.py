"""What a run needs, checked before any work: servers, drivers, packages, the store, disk space."""
