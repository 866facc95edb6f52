"""Notebooks, the tables that they look at, and what executes them."""
