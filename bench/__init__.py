"""Benchmarks: `make bench` prints a table. Figures stand beside a reference measured in the same run; read the ratios."""
