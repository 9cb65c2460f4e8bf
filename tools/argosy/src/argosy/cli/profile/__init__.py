"""Timing profiles: what a real engine was measured to take, for the sim engine to take too."""
