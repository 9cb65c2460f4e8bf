"""Which request goes where, and when."""
