"""Pulls KV and streams tokens."""
