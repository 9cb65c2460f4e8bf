"""Traces of requests, as files hold them."""
