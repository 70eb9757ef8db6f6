"""The only SQL. Everything above speaks to `Store` and to the functions of the modules in here."""
