"""argosy plan, argosy why: what the autoscaler is to keep to, and why it decided what it did."""
