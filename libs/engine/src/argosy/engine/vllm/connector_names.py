"""Names the connector module is known by, without importing it (it imports vLLM)."""

MODULE = "argosy.engine.vllm.connector"
POLL_US_VARIABLE = "ARGOSY_NIXL_POLL_US"
"""Set by the engine for its own processes; 0 leaves NIXL's default."""
