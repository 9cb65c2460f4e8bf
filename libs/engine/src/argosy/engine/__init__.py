"""One engine protocol; `sim` and `vllm` behind it; and the instance around an engine."""
