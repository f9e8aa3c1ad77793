"""The image: what goes into it, and how it is installed."""

import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PACKAGES = {
    one.rstrip("*") for one in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
}
# Dashboards are generated in the checkout, and Grafana reads the files.
IN_IMAGE = PACKAGES - {"grafana"}
LOCK = (ROOT / "requirements-image.lock").read_text()
HADOLINT = Path(sys.executable).with_name("hadolint")


def stages() -> list[str]:
    return re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]


def locked(text: str) -> dict[str, str]:
    """Name -> version."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.skipif(
    not HADOLINT.exists(),
    reason=f"hadolint has no wheel for {platform.system()} on {platform.machine()}",
)
def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_both_stages_begin_with_the_same_slim_image_of_one_version() -> None:
    bases = {stage.split()[1] for stage in stages()}
    assert len(stages()) == 2
    [base] = bases
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)


def test_everything_fetched_is_compared_with_its_hash_and_nothing_is_built_from_source() -> None:
    installs = re.findall(r"pip install (.*?)(?:\n(?! )|&&|$)", DOCKERFILE, re.DOTALL)
    fetching, own = installs
    for option in ("--require-hashes", "--only-binary=:all:", "requirements-image.lock"):
        assert option in fetching
    assert "--no-deps" in own
    assert "--no-build-isolation" in own
    for command in ("apt-get", "curl ", "wget ", "http"):
        assert command not in DOCKERFILE


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9_.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(LOCK)) > 20
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def test_the_image_has_the_tested_versions_and_no_embedded_servers() -> None:
    tested = locked((ROOT / "requirements.lock").read_text())
    image = locked(LOCK)
    assert image.items() <= tested.items()
    assert "setuptools" in image  # builds our own package
    names = [re.split(r"[\[<>=;]", one)[0].lower() for one in PROJECT["dependencies"]]
    wanted = {name.replace(".", "-") for name in names}  # as pip-compile writes them
    assert wanted <= set(image)
    for part in PROJECT["optional-dependencies"]["local"]:
        assert re.split(r"[<>=;]", part)[0] not in image


def test_it_runs_as_nobody_and_knows_its_version() -> None:
    last = stages()[-1]
    assert "\nUSER 10001:10001\n" in last
    assert last.index("USER ") > last.rindex("COPY ")
    assert 'ENTRYPOINT ["tokenpulse"]' in last
    assert "HEALTHCHECK NONE" in last
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in last
    assert "pip install" not in last


def context() -> list[Path]:
    """The files that the image is built from: what .dockerignore lets through. As Docker reads it:
    the last pattern that matches a path, or a directory above it, decides."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    def ignored(path: Path) -> bool:
        names = [str(path), *map(str, list(path.parents)[:-1])]
        decided = False
        for rule in rules:
            pattern = rule.removeprefix("!")
            if any(fnmatch(name, pattern) or fnmatch(f"/{name}", pattern[2:]) for name in names):
                decided = not rule.startswith("!")
        return decided

    found = []
    for top in ROOT.iterdir():
        if top.name in {".git", ".venv"}:
            assert ignored(Path(top.name))
            continue
        inside = [top] if top.is_file() else top.rglob("*")
        files = [one for one in inside if one.is_file() or one.is_symlink()]
        found += [one for one in files if not ignored(one.relative_to(ROOT))]
    return found


def test_nothing_but_the_code_goes_into_the_image() -> None:
    tops = {path.relative_to(ROOT).parts[0] for path in context()}
    assert tops == {
        *("pyproject.toml", "README.md", "requirements-image.lock"),
        *(*IN_IMAGE, "docs"),
    }
    docs = {path.relative_to(ROOT).parts[:2] for path in context() if "docs" in path.parts}
    assert docs == {("docs", "runbooks")}
    assert not [path for path in context() if path.suffix == ".pyc"]
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    assert {name for names in copied for name in names.split()} == (
        tops - {"docs"} | {"docs/runbooks"}
    )


def test_the_package_built_from_that_has_all_that_the_code_reads(tmp_path: Path) -> None:
    for path in context():
        copy = tmp_path / "source" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy, follow_symlinks=False)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", tmp_path / "wheel", tmp_path / "source"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "wheel").glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    left_out = ("alerts/generated/", "alerts/alertmanager/")
    wanted = {
        str(path.relative_to(ROOT))
        for package in IN_IMAGE
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    missing = {name for name in wanted - inside if not name.startswith(left_out)}
    assert missing == set()
