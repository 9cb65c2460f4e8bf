"""Argosy's Python SDK.

async with Client("127.0.0.1:50051") as client:
    async for chunk in client.generate("smollm2-135m", text="Once upon a time", max_tokens=64):
        print(chunk.text, end="")
"""

from argosy.client.client import Answer, Client
from argosy.domain.errors import ArgosyError, Reason

__all__ = ["Answer", "ArgosyError", "Client", "Reason"]
