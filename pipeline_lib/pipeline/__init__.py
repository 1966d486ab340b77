"""The steps of a run: what identifies each, the plan, and a run as plain calls."""
