"""Names of KV blocks, whichever engine computes them."""
