"""The package finds its files however it is installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

LOOK = """
import sys
from pathlib import Path
import recbole_recfound
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.runtime.locations import properties_dir
print(Path(recbole_recfound.__file__).resolve().parent)
print(properties_dir().resolve())
names = sorted(p.name for p in (properties_dir() / "dataset").glob("*.yaml"))
print(len(read_settings(properties_dir() / "overall.yaml")), names[-1])
"""


FILES = (
    "setup.py",
    "MANIFEST.in",
    "Makefile",
    "mkdocs.yml",
    "pyproject.toml",
    "run_recfound.py",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
)


def _python(*arguments, cwd, path=None):
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _look(cwd, path):
    package, properties, content = _python("-c", LOOK, cwd=cwd, path=path).splitlines()
    assert content.split()[1] == "ml-100k.yaml" and int(content.split()[0]) > 5
    return package, properties


@pytest.fixture(scope="module")
def source(checkout, tmp_path_factory):
    """A copy of the checkout, so that building leaves nothing in it."""
    copy = tmp_path_factory.mktemp("source") / "checkout"
    copy.mkdir()
    for name in FILES:
        shutil.copy(checkout / name, copy)
    for name in ("recbole_recfound", "properties", "tests", "benchmarks", "docs", "examples"):
        shutil.copytree(checkout / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    _python("setup.py", "-q", "sdist", "--dist-dir", out, cwd=source)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(out, filter="data")
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


@pytest.fixture(scope="module")
def site_packages(sdist, tmp_path_factory):
    """What installing the sdist's wheel puts into site-packages."""
    out = tmp_path_factory.mktemp("wheel")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    _python("-m", "pip", "wheel", *flags, "--wheel-dir", out, sdist, cwd=out)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(out / "site")
    return out / "site"


def test_wheel_built_from_the_sdist(site_packages, tmp_path):
    package, properties = _look(tmp_path, site_packages)
    assert package == str(site_packages / "recbole_recfound") and properties == str(
        site_packages / "recbole_recfound" / "properties"
    )


def test_wheel_holds_every_file_of_the_package_and_no_tests(site_packages, source):
    for name, inside in (("recbole_recfound", "recbole_recfound"), ("properties", "recbole_recfound/properties")):
        for path in (source / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (site_packages / inside / path.relative_to(source / name)).is_file(), path
    assert not (site_packages / "tests").exists() and not (site_packages / "benchmarks").exists()


def test_console_script(site_packages, tmp_path):
    (entries,) = site_packages.glob("*.dist-info/entry_points.txt")
    assert "recfound = recbole_recfound.cli:main" in entries.read_text()
    out = _python(
        "-c", "from recbole_recfound.cli import main; main(['run', '--help'])", cwd=tmp_path, path=site_packages
    )
    assert "--mask_history=true" in out


def test_sdist_is_a_checkout(sdist, tmp_path):
    assert (sdist / "run_recfound.py").is_file() and (sdist / "tests" / "conftest.py").is_file()
    inside = ("docs/index.md", "docs/images/sampling.svg", "examples/RecentPop.yaml", "recbole_recfound/py.typed")
    assert all((sdist / name).is_file() for name in (*FILES[2:], *inside))
    _, properties = _look(tmp_path, sdist)
    assert properties == str(sdist / "properties")


def test_bare_checkout(checkout, tmp_path):
    package, properties = _look(tmp_path, checkout)
    assert (package, properties) == (str(checkout / "recbole_recfound"), str(checkout / "properties"))


def test_editable_install(source, tmp_path):
    target = tmp_path / "site"
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "--target", target]
    _python("-m", "pip", "install", *flags, "-e", source, cwd=tmp_path)
    # what `site` does with the .pth file that an editable install leaves; the tests' own environment may hold such a
    # file too: not read
    look = (
        f"import site, sys; site.addsitedir({str(target)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"
        + LOOK
    )
    package, properties, _ = _python("-S", "-c", look, cwd=tmp_path).splitlines()
    assert (package, properties) == (str(source / "recbole_recfound"), str(source / "properties"))
