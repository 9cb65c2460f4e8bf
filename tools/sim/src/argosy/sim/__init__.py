"""The services' cores in virtual time."""
