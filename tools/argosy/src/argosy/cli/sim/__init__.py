"""A fleet in virtual time, under a real trace."""

from typing import Literal

TraceFormat = Literal["mooncake", "azure"]
