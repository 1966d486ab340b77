"""The steps of a run, their fingerprints, the plan, and running them as plain function calls."""
