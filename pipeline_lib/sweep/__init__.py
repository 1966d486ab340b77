"""Run many recipes and compare their results."""
