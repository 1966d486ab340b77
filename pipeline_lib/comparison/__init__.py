"""Compare two runs on the same test rows, and test which differences are beyond chance."""
