"""Makes the fleet be what its file says."""
