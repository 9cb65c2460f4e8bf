"""One per node: runs what lives there."""
