"""`python -m lrp`: the command `lrp`, a door to `audiomnist.explain`, which knows of recordings and sound."""

import sys

from audiomnist.explain.cli import main

sys.exit(main())
