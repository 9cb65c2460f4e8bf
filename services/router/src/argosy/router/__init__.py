"""Who serves this request, and when: the hot path."""
