"""Retraining: check new data, train challengers, and decide whether one replaces the champion."""
