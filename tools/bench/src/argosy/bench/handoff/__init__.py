"""What a handoff costs."""
