"""Deployment of the flows, and ready-to-run example recipes."""
