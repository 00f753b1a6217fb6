"""`python -m audiomnist`."""

import sys

from audiomnist.cli import main

sys.exit(main())
