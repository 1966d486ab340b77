"""`tunesmith up`: on one machine all that a user needs, started, registered, and stopped together."""
