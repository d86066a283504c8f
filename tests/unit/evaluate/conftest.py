"""Let the tests of this folder import ``evaluation_fakes`` from ``tests/``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
