"""`python -m benchmarks.fuzzing`."""

import sys

from benchmarks.fuzzing.command import main

sys.exit(main())
