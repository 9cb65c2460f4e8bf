"""Feeding recorded decisions through their cores again."""
