"""`python3 -m study`. This file must stay readable to every old Python, so that it can say that it is too old."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit("study needs Python 3.10 or newer, this is %d.%d: see https://www.python.org" % sys.version_info[:2])  # noqa: UP031

from study.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
