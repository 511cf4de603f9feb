"""The README's Python runs as it stands, block after block, as a reader would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_tour_runs_from_top_to_bottom(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(blocks) >= 4
    checks = """
assert double_well.noise_type == "additive"
assert ds.sizes == {"member": 1000, "time": 41} and int(ds.status.sum()) == 0
assert float(hopped[-1]) > float(hopped[0])                         # hotter wells are left sooner
assert fields.u.dims == ("member", "time", "y", "x") and fields.u.attrs["units"] == "K"
assert fields.boundary_x == "periodic" and fields.boundary_y == "dirichlet-neumann"
assert synthetic.sizes["member"] == 8 and synthetic.u.attrs == fields.u.attrs
np.testing.assert_array_equal(synthetic.x, fields.x)
"""
    path = tmp_path / "tour.py"
    path.write_text("\n".join([*blocks, checks]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
