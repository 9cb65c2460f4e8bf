"""A fleet in virtual time, under a real trace."""
