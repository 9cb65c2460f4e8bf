"""The autoscaler: how many instances, and who sleeps."""
