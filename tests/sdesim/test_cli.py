"""The command line: it runs what files describe, and a mistake is one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sdesim import cli, config, storage
from sdesim.boundaries import Absorbing, Dirichlet, Neumann, Periodic, Reflecting, Robin
from sdesim.config import ConfigError
from sdesim.fields import ColouredNoise, GaussianField, WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.simulation import simulate

OU = """
[model]
kind = "sde"
drift = {x = "-k*x"}
noise = {x = "s"}
parameters = {k = 1.0, s = 0.5}

[initial]
x = {norm = [0.0, 1.0]}

[parameters]
k = {uniform = {loc = 0.5, scale = 1.0}}

[run]
times = {start = 0.0, stop = 1.0, count = 3}
members = 6
seed = 3
dt = 0.05
"""
HEAT = """
[model]
kind = "pde"
grid = {x = [0.0, 1.0, 8], y = [0.0, 2.0, 6]}
diffusivity = "D"
parameters = {D = 0.01}
boundary = {x = "periodic", y = [{dirichlet = 0.5}, {robin = [1.0, 2.0, 0.0]}]}
noise = {u = {white = "0.1*u"}}

[initial]
u = {gaussian = "1 + sin(2*pi*x)", std = 0.5, length = 0.1}

[run]
times = [0.0, 0.1]
members = {start = 4, stop = 7}
"""


@pytest.fixture
def ou(tmp_path: Path) -> Path:
    path = tmp_path / "ou.toml"
    path.write_text(OU)
    return path


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the command prints for these arguments."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sdesim: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_simulate_writes_what_the_python_door_returns(ou: Path, tmp_path: Path) -> None:
    out = tmp_path / "ou.nc"
    assert cli.main(["simulate", str(ou), "-o", str(out)]) == 0
    model = SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1.0, "s": 0.5})
    expected = simulate(
        model, {"x": stats.norm(0.0, 1.0)}, [0.0, 0.5, 1.0], members=6, parameters={"k": stats.uniform(0.5, 1.0)},
        seed=3, dt=0.05,
    )  # fmt: skip
    with storage.open(out) as ds:
        np.testing.assert_array_equal(ds.x, expected.x)
        np.testing.assert_array_equal(ds.k, expected.k)


def test_rerun_makes_chosen_members_again(ou: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "ou.nc", tmp_path / "part.zarr"
    assert cli.main(["simulate", str(ou), "-o", str(whole)]) == 0
    assert cli.main(["rerun", str(whole), "--members", "2,4", "-o", str(part)]) == 0
    with storage.open(whole) as a, storage.open(part) as b:
        assert b.member.values.tolist() == [2, 4]
        np.testing.assert_array_equal(b.x, a.x.sel(member=[2, 4]))


def test_equations_of_a_run_and_of_its_file_are_the_same(
    ou: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", str(ou), "-o", str(tmp_path / "ou.nc")]) == 0
    capsys.readouterr()
    shown = []
    for path in (ou, tmp_path / "ou.nc"):
        assert cli.main(["equations", str(path)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "dx = (-k*x) dt + (s) dW_x" in shown[0]
    assert cli.main(["equations", str(ou), "--latex"]) == 0
    assert r"\mathrm{d}x" in capsys.readouterr().out


def test_catalogue_and_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["equations"]) == 0
    catalogue = capsys.readouterr().out
    assert "gray_scott" in catalogue
    assert "heat" in catalogue
    assert cli.main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["name", "kind", "order"]
    assert {"euler_maruyama", "heun", "milstein", "exact", "etdrk4", "rkl2"} <= {line.split()[0] for line in lines}


def test_mistakes_are_one_line_and_exit_code_2(
    ou: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.nc"
    assert "there is no file" in failure(capsys, "simulate", tmp_path / "no.toml", "-o", out)
    assert "invalid choice: 'bogus'" in failure(capsys, "bogus")
    assert "required: COMMAND" in failure(capsys)
    assert "wanted .nc" in failure(capsys, "simulate", ou, "-o", tmp_path / "out.hdf")
    assert "wanted member numbers such as 41" in failure(capsys, "rerun", "x.nc", "--members", "a", "-o", out)
    assert "nothing lies at" in failure(capsys, "rerun", tmp_path / "no.nc", "-o", out)
    ou.write_text(OU.replace("-k*x", "-q*x"))
    assert "unknown name 'q'" in failure(capsys, "simulate", ou, "-o", out)
    ou.write_text(OU + "\nspeed = 3\n")
    assert "run.speed is not known" in failure(capsys, "simulate", ou, "-o", out)
    ou.write_text(OU + "[")
    assert "is not valid TOML" in failure(capsys, "simulate", ou, "-o", out)
    with pytest.raises(ValueError, match="is not valid TOML"):
        cli.main(["--traceback", "simulate", str(ou), "-o", str(out)])
    assert not out.exists()


def test_an_error_of_ours_is_no_user_error(monkeypatch: pytest.MonkeyPatch, ou: Path) -> None:
    def broken(_: object) -> None:
        raise AssertionError("a fault in the library")

    monkeypatch.setattr(config, "read", broken)
    with pytest.raises(AssertionError):
        cli.main(["equations", str(ou)])


def test_help_version_and_console_script() -> None:
    script = Path(sys.executable).with_name("sdesim")
    version = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("sdesim ")
    code = (
        "import sys; from sdesim.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'xarray' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in ("simulate", "rerun", "equations", "methods", "train", "sample", "evaluate", "demo"):
        assert f"\n    {command}" in shown


def test_commands_of_other_packages_come_by_entry_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        EntryPoint("greet", "plugin_for_test:register", cli.GROUP),
        EntryPoint("broken", "no_such_module:register", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries if group == cli.GROUP else [])
    plugin = type(sys)("plugin_for_test")

    def register(subparsers: Any) -> None:
        parser = subparsers.add_parser("greet")
        parser.add_argument("--times", type=int, default=1)
        parser.set_defaults(run=lambda arguments: 5 + arguments.times)

    plugin.register = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plugin_for_test", plugin)
    assert cli.main(["greet", "--times", "2"]) == 7
    assert "invalid int value: 'x'; see sdesim greet --help" in failure(capsys, "greet", "--times", "x")
    assert "'broken' (no_such_module:register) cannot be loaded" in failure(capsys, "broken")


def test_a_field_is_described_as_python_describes_it(tmp_path: Path) -> None:
    path = tmp_path / "heat.toml"
    path.write_text(HEAT)
    run = config.read(path)
    expected = PDE(
        Grid(x=(0.0, 1.0, 8), y=(0.0, 2.0, 6)), diffusivity="D", parameters={"D": 0.01},
        boundary={"x": Periodic(), "y": (Dirichlet(0.5), Robin(1.0, 2.0, 0.0))},
        noise={"u": WhiteNoise("0.1*u")},
    )  # fmt: skip
    assert run["model"] == expected
    assert run["initial"] == {"u": GaussianField("1 + sin(2*pi*x)", 0.5, 0.1)}
    assert run["members"] == range(4, 7)
    ds = simulate(**run)
    assert ds.member.values.tolist() == [4, 5, 6]
    assert ds.u.shape == (3, 2, 6, 8)


def test_json_says_the_same_as_toml(tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "ou.toml").write_text(OU)
    (tmp_path / "ou.json").write_text(json.dumps(tomllib.loads(OU)))
    a, b = (config.read(tmp_path / name) for name in ("ou.toml", "ou.json"))
    assert a["model"].to_dict() == b["model"].to_dict()
    np.testing.assert_array_equal(a["times"], b["times"])
    assert a["members"] == b["members"] == 6


def test_boundaries_and_bounds_in_all_their_forms() -> None:
    grid = {"x": [0, 1, 8], "y": [0, 1, 8]}
    robin = {"a": 1, "b": 2, "c": 0}
    edges = {"u": {"x": "periodic", "y": [robin, "neumann"]}}
    built = config.model({"kind": "pde", "grid": grid, "diffusivity": 1, "boundary": edges})
    assert built == PDE(
        Grid(x=(0, 1, 8), y=(0, 1, 8)), diffusivity=1,
        boundary={"u": {"x": Periodic(), "y": (Robin(1, 2, 0), Neumann())}},
    )  # fmt: skip
    noise = {"u": {"coloured": 0.1, "length": 0.2, "smoothness": 1.5}}
    built = config.model({"kind": "pde", "grid": grid, "diffusivity": 1, "boundary": {"x": "periodic"}, "noise": noise})
    assert built.noise["u"].length == ColouredNoise(0.1, 0.2, 1.5).length
    bounds = {"x": {"reflecting": [0.0, float("inf")]}, "v": {"absorbing": [-1.0, 2.0]}}
    sde = config.model({"kind": "sde", "drift": {"x": "v", "v": "-x"}, "bounds": bounds})
    assert sde.bounds == {"x": Reflecting(0.0, None), "v": Absorbing(-1.0, 2.0)}


@pytest.mark.parametrize(
    "data, complaint",
    [
        ([], "the configuration must be a table"),
        ({"model": {}}, r"needs the sections \[model\] and \[initial\]"),
        ({"modell": {}}, "unknown entry 'modell'"),
        ({"model": {"kind": "sde"}, "initial": {"x": 1}}, "run.times is missing"),
        ({"model": {"kind": "sde"}, "initial": {}, "run": {"times": [0]}}, "model lacks drift"),
        ({"model": {"kind": "sde", "drfit": {}}, "initial": {}, "run": {"times": [0]}}, "unknown entry 'drfit'"),
        ({"model": {"equation": "os"}, "initial": {}, "run": {"times": [0]}}, "model.equation must be one of"),
        ({"model": {"kind": "sde", "drift": {"x": 1}}, "initial": {"x": {"norm": [], "loc": 1}},
          "run": {"times": [0]}}, "initial.x must be a number"),
        ({"model": {"kind": "sde", "drift": {"x": 1}}, "initial": {"x": {"system": ["true"]}},
          "run": {"times": [0]}}, "'system' is no distribution"),
        ({"model": {}, "initial": {}, "run": {"times": {"start": 0}}}, "run.times must be a list"),
        ({"model": {}, "initial": {}, "run": {"times": [0], "members": {"start": 0}}}, "run.members must be"),
        ({"model": {"boundary": {"x": {"dirichlet": 0, "neumann": 1}}}, "initial": {}, "run": {"times": [0]}},
         "model.boundary.x must be one of"),
        ({"model": {"boundary": {"x": "open"}}, "initial": {}, "run": {"times": [0]}}, "must be one of periodic"),
        ({"model": {"bounds": {"x": {"reflecting": 3}}}, "initial": {}, "run": {"times": [0]}}, r"must be \[lo, hi\]"),
        ({"model": {"bounds": {"x": {"open": [0, 1]}}}, "initial": {}, "run": {"times": [0]}}, "reflecting = "),
        ({"model": {"kind": "pde", "noise": {"u": {"pink": 1}}}, "initial": {}, "run": {"times": [0]}},
         "model.noise.u must be {white"),
    ],
)  # fmt: skip
def test_what_a_configuration_lacks_is_named(data: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        config.call(data)


def test_only_known_file_types_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: 1")
    with pytest.raises(ConfigError, match="must end in .toml or .json"):
        config.read(tmp_path / "run.yaml")
