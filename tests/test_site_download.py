"""A downloaded chapter is executed as a stranger would, in an environment with the wheel alone.

It takes a network and half a minute, so this is left to CI.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="installs the wheel anew: for CI")
def test_downloaded_chapter_runs_with_the_wheel_alone():
    subprocess.run([ROOT / ".ci" / "check-chapters", "beyond/looping"], check=True)
