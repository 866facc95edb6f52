"""How fast it is: ``python -m benchmarks [--only PARTS] [--quick]``, see ``benchmarks.__main__``."""
