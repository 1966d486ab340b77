"""The artifact store: on a disk, and shared under a URL."""
