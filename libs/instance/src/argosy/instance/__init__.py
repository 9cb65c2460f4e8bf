"""An engine made a member of the mesh."""
