"""Documents, search in them, and answers that are grounded in what was found."""
