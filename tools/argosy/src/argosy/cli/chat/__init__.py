"""Talking to the model of a fleet."""
