"""The streaming jobs over the landing and the Delta tables, and the functions they share."""
