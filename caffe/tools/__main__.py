"""`python -m caffe.tools`: the `caffe-tools` command."""

import sys

from caffe.tools.command import main

sys.exit(main())
