"""From expected demand to what is decided."""
