"""What Prophet makes of the history: slow, and off the decision path, live and simulated."""
