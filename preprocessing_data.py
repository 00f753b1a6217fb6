#!/usr/bin/env python3
"""Turn recordings of spoken digits into the inputs of the two networks: `audiomnist preprocess`, as a script.

python preprocessing_data.py --source data --destination preprocessed_data --meta data/audioMNIST_meta.txt
"""

import sys

from audiomnist.preprocessing.command import main

if __name__ == "__main__":  # its worker processes import this file again
    sys.exit(main())
