"""A fleet on this machine: bringing it up, finding it, taking it down."""
