"""What the store decides, and nothing it does: no clock, network, file or chance here."""
