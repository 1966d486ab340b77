"""The error of a file that no source can read rows from."""


class NoData(Exception):
    """A file that no source can read rows from, and why."""
