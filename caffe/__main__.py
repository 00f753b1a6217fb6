"""`python -m caffe`: the `caffe` command."""

import sys

from caffe.cli import main

sys.exit(main())
