"""The real engine: vLLM through its public async API, connector and worker extension."""
