"""Deploying the flows, and example recipes that run as they are."""
