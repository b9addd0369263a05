"""The images: clean by the linter, made of files that are there, run by nobody special; their building."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.environment import variables

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "deploy" / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
PACKAGES = ("common", "scheduler", "inference", "finetune", "jobs", "billing", "control", "operators")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_linter_finds_nothing(file: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [str(hadolint), "--config", str(IMAGES / ".hadolint.yaml"), str(file)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_images_hold_the_product_and_run_as_somebody(file: Path) -> None:
    text = file.read_text()
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert set(PACKAGES) <= set(copied)
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in let_in, f".dockerignore keeps {name} out"
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    assert "PYTHONPATH=/opt/computility" in text, "agents are started by the path that control has"


def build(folder: Path, *names: str, builders: tuple[str, ...] = (), **settings: str) -> tuple[int, str, str]:
    """Exit code, standard error, and the calls of the builders that are on PATH."""
    folder.mkdir(exist_ok=True)
    log = folder / "calls"
    log.touch()
    for tool in ("bash", "dirname", "sed"):
        (folder / tool).symlink_to(
            next(p for p in (Path("/usr/bin"), Path("/bin")) if (p / tool).exists()) / tool
        )
    for builder in builders:
        (folder / builder).write_text(f'#!/bin/bash\necho {builder} "$@" >> {log}\n')
        (folder / builder).chmod(0o755)
    kept = {name: text for name, text in variables().items() if name in ("LANG", "HOME")}
    done = subprocess.run(
        ["/bin/bash", str(IMAGES / "build.sh"), *names],
        env={**kept, "PATH": str(folder), **settings},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr, log.read_text()


def test_the_first_builder_that_is_there_builds(tmp_path: Path) -> None:
    code, _, calls = build(
        tmp_path / "bin", "cuda", builders=("podman", "buildah"), REGISTRY="r.example/", TAG="7"
    )
    assert code == 0
    assert calls == (
        "podman build --file deploy/images/cuda.Dockerfile --tag r.example/computility/computility-cuda:7 .\n"
    )


def test_nothing_named_builds_the_products_own_image(tmp_path: Path) -> None:
    code, _, calls = build(tmp_path / "bin", builders=("docker",), PUSH="yes")
    assert code == 0
    assert re.fullmatch(
        r"docker build --file deploy/images/cpu.Dockerfile --tag computility/computility:\d\S* \.\n"
        r"docker push computility/computility:\d\S*\n",
        calls,
    )


@pytest.mark.parametrize(
    ("names", "builders", "settings", "said"),
    [
        (("cpu",), (), {}, "neither docker nor podman nor buildah"),
        (("cpu",), ("docker",), {"BUILDER": "kaniko"}, "BUILDER=kaniko"),
        (("tpu",), ("docker",), {}, "there is no image tpu"),
        (("rocm",), ("docker",), {}, "BASE_ROCM is not set"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, names: tuple[str, ...], builders: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    code, error, calls = build(tmp_path / "bin", *names, builders=builders, **settings)
    assert (code, calls) == (1, "")
    assert said in error
