"""What is in the wheels, and which of them pip takes."""

from __future__ import annotations

import re
import shutil
import sys
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.wheels import VERSION, lines, run


def about(wheel: Path, name: str) -> str:
    """A metadata file of a wheel, as text."""
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(f"procession-{VERSION}.dist-info/{name}").decode()


def fields(wheel: Path, name: str) -> Message:
    """A metadata file of a wheel, as header fields."""
    return Parser().parsestr(about(wheel, name))


def files(wheel: Path) -> set[str]:
    """The files that a wheel installs, without its metadata."""
    with zipfile.ZipFile(wheel) as packed:
        return {name for name in packed.namelist() if ".dist-info/" not in name}


def test_the_wheel_for_other_systems_fits_every_system(pure_wheel: Path) -> None:
    """It has the version of the crates, no native code, and nothing that runs by itself."""
    assert pure_wheel.name == f"procession-{VERSION}-py3-none-any.whl"
    wheel, project = fields(pure_wheel, "WHEEL"), fields(pure_wheel, "METADATA")
    assert (wheel["Tag"], wheel["Root-Is-Purelib"]) == ("py3-none-any", "true")
    assert (project["Name"], project["Version"], project["Requires-Python"]) == (
        "procession",
        VERSION,
        ">=3.11",
    )
    assert set(project.get_all("License-File", [])) == {"LICENSE-APACHE", "LICENSE-MIT"}
    names = files(pure_wheel)
    assert {"procession/__init__.py", "procession/__main__.py", "procession/py.typed"} <= names
    assert {Path(name).suffix for name in names} == {".py", ".pyi", ".typed"}
    assert all(name.startswith("procession/") for name in names)


def test_the_wheel_with_the_engine_is_complete(engine_wheel: Path) -> None:
    """One library for all Pythons from 3.11 on, its types, and the switch beside the package."""
    assert re.fullmatch(
        rf"procession-{re.escape(VERSION)}-cp311-abi3-(many|musl)linux\S+\.whl", engine_wheel.name
    )
    wheel, project = fields(engine_wheel, "WHEEL"), fields(engine_wheel, "METADATA")
    assert wheel["Root-Is-Purelib"] == "false"
    assert (project["Name"], project["Version"], project["Requires-Python"]) == (
        "procession",
        VERSION,
        ">=3.11",
    )
    assert set(project.get_all("License-File", [])) == {"LICENSE-APACHE", "LICENSE-MIT"}
    names = files(engine_wheel)
    assert {"procession.pth", "procession.start", "_procession_alias.py", "_procession_switch.py"} <= names
    assert {"procession/py.typed", "procession/_native.pyi"} <= names
    assert {name for name in names if ".so" in name} == {"procession/_native.abi3.so"}
    assert not any("__pycache__" in name for name in names)


def test_both_wheels_are_described_alike(engine_wheel: Path, pure_wheel: Path) -> None:
    """They are files of one project: the same name, version, summary, licences and Pythons."""
    engine, pure = (fields(wheel, "METADATA") for wheel in (engine_wheel, pure_wheel))
    for name in ("Name", "Version", "Summary", "License-Expression", "Requires-Python"):
        assert engine[name] == pure[name] and engine[name]
    for licence in ("licenses/LICENSE-APACHE", "licenses/LICENSE-MIT"):
        assert about(engine_wheel, licence) == about(pure_wheel, licence)


@pytest.fixture
def index(engine_wheel: Path, pure_wheel: Path, tmp_path: Path) -> Path:
    """A folder with both wheels."""
    pytest.importorskip("pip", reason="pip is not installed")
    folder = tmp_path / "index"
    folder.mkdir()
    for wheel in (engine_wheel, pure_wheel):
        shutil.copy(wheel, folder)
    return folder


PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input")


def test_pip_takes_the_engine_where_it_runs(index: Path, tmp_path: Path) -> None:
    """A fresh environment on this machine gets the engine, and no warning."""
    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    fresh = str(tmp_path / "fresh" / "bin" / "python")
    offline = ("--no-index", "--no-cache-dir", "--find-links", str(index))
    done = run(*PIP, "--python", fresh, "install", *offline, "procession")
    assert done.returncode == 0, done.stderr
    program = "import procession, procession._native as engine; print(engine.__file__)"
    (found,) = lines(run(fresh, "-c", program, cwd=tmp_path))
    assert Path(found).is_relative_to(tmp_path / "fresh")


@pytest.mark.parametrize("system", ["macosx_11_0_arm64", "win_amd64", "musllinux_1_2_riscv64"])
def test_pip_takes_the_pure_wheel_elsewhere(
    index: Path, pure_wheel: Path, tmp_path: Path, system: str
) -> None:
    """Systems that no wheel of the engine fits get the other one."""
    offline = ("--no-index", "--no-cache-dir", "--find-links", str(index), "--no-deps")
    there = ("--only-binary=:all:", "--platform", system, "--dest", str(tmp_path / "taken"))
    done = run(*PIP, "download", *offline, *there, "procession")
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "taken").iterdir()] == [pure_wheel.name]
