"""`python -m lrp`."""

import sys

from lrp.cli import main

sys.exit(main())
