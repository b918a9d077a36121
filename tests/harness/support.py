"""What tests of the harness share: they run inside a bake, whose package is `my_experiment`."""

import os
from pathlib import Path

ROOT = Path(os.environ["BAKED_PROJECT"])
PACKAGE = "my_experiment"
HARNESS = ROOT / "src" / PACKAGE / "harness"
