"""The demo: everything once, on this machine."""
