"""Our own services, as a user would run and call them."""
