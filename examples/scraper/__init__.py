"""A web scraper over a pool of processes: `python -m scraper --help`.

A page that fails, hangs or kills its worker costs one line of the report and nothing else.
"""
