"""How fast it is: ``python -m benchmarks``; see ``benchmarks.__main__``."""
