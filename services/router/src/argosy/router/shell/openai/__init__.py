"""OpenAI's HTTP API at the router's edge."""
