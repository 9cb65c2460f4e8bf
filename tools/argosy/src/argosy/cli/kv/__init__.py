"""argosy kv: look into the KV stores of a fleet."""
