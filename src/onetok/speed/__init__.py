"""How fast a system runs here, beside the time that its products alone take here."""
