"""The artifact store: on a local disk, or shared by several machines under a URL."""
