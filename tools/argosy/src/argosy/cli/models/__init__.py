"""Ready-to-serve models: what Argosy knows how to prepare, and how.

`fetch` turns a catalogue name into a Hugging Face folder on disk. It needs the light packages
gguf, numpy, safetensors and ml_dtypes, imported only once something is converted; it needs
neither torch nor transformers.
"""
