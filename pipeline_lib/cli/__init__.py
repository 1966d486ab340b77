"""The command line: one module per command group, and the tables that they print."""
