"""`python examples/scrape.py`: the scraper from any directory."""

import sys

from scraper.cli import main

if __name__ == "__main__":
    sys.exit(main())
