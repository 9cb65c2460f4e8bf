"""What the store decides, as a pure function of state and event."""
