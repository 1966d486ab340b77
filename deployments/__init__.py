"""Deployments: how flows are put to work, and recipes that run as they are."""
