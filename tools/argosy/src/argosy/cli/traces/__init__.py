"""Traces from span files: reading, joining, drawing."""
