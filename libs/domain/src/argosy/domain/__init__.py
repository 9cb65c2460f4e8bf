"""The words all services share: pure, and without I/O."""
