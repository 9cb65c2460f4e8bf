"""Computes prompts' KV and keeps it until it is pulled, released or expired."""
