"""The formats of traces that can be read. Apart, so that the command line need not import numpy."""

from typing import Literal

TraceFormat = Literal["mooncake", "azure"]
