"""The life of an instance: which states there are, who may change them, and how."""
