"""The fleet file: its schema, its units, and what plans it may hold."""
