"""A tenant's own work on the pool, as it types it: `computility run` and `jobs` against the real platform."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotFound
from common.ids import new_id
from common.resources.meta import API_VERSION
from scheduler.adapters.ray.sandbox import why_not
from tests.fixtures.platform import Running
from tests.fixtures.probe import Probe, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "jobs" / "train.yaml"
TRAIN = """
import json, os, pathlib, sys, time
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SAID")
print(json.dumps({"cwd": sorted(os.listdir()), **{name: os.environ[name] for name in names}}))
if not os.path.exists("began"):
    open("began", "w").close()
    sys.exit("the first attempt fails")
out = pathlib.Path(os.environ["COMPUTILITY_OUTPUT"])
(out / "model").mkdir()
(out / "model" / "odd\\nname").write_text("weights")
(out / "key").symlink_to("/etc/passwd")
time.sleep(2)
"""
LOOK = """
import json, os, sys
def reads(path):
    try:
        return bool(open(path).read())
    except OSError:
        return False
home = os.environ["COMPUTILITY_HOME"]
token, work = reads(f"{home}/run/token"), os.listdir(f"{home}/work")
print(json.dumps({"uid": os.getuid(), "token": token, "work": work}))
"""
GANG = """
import os, socket
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    with socket.create_server(address) as server:
        print("met", server.accept()[0].recv(9).decode())
else:
    while True:
        try:
            socket.create_connection(address).sendall(os.environ["LOCAL_RANK"].encode())
            break
        except ConnectionRefusedError:
            pass
"""
PORT = """
import socket
with socket.create_server(("127.0.0.1", 8888)) as server:
    print("listens", flush=True)
    while True:
        taken, _ = server.accept()
        with taken:
            taken.sendall(b"heard " + taken.recv(100))
"""


AS_IN_A_TERMINAL = ("env", "--default-signal=INT")
"""What a shell starts in its background ignores Ctrl-C, and so does all below it."""


class Tenant:
    """Somebody with a key and a shell, on a machine with nothing of the platform but its command line."""

    def __init__(self, running: Running, probe: Probe, name: str, project: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        folder.mkdir()
        secret = probe.admin.create_key(name, "member", project=project)["secret"]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("COMPUTILITY_")}
        self.client = running.control(secret)
        self.environment = {
            **kept,
            "COMPUTILITY_HOME": str(folder / "home"),
            "COMPUTILITY_CONTROL_BASE_URL": running.settings.control_url,
            "COMPUTILITY_API_KEY": secret,
        }

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*AS_IN_A_TERMINAL, sys.executable, "-m", "control.cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def types(self, *words: str) -> tuple[int, str, str]:
        """The exit code, and what went to standard output and error."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def probe(running_platform: Running) -> Iterator[Probe]:
    made = Probe(running_platform)
    yield made
    made.close()


@pytest.fixture
def tenant(running_platform: Running, probe: Probe, tmp_path: Path) -> Iterator[Tenant]:
    made = Tenant(running_platform, probe, new_id("jobs"), probe.project, tmp_path / "mine")
    yield made
    made.client.close()
    probe.admin.revoke_key(made.name)


def test_a_folder_is_run_tried_again_and_what_it_left_is_here(tenant: Tenant, probe: Probe) -> None:
    tenant.write(train=TRAIN, secret="1")
    (tenant.folder / ".computilityignore").write_text("secret.py\n")
    code, out, err = tenant.types(
        *("run", "--name", "first", "-e", "SAID=hello", "-O", "../results", "--", "python", "train.py")
    )
    assert code == 0, err
    first, second = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    assert (first["RANK"], first["WORLD_SIZE"], first["LOCAL_RANK"]) == ("0", "1", "0")
    assert (first["MASTER_ADDR"], first["SAID"]) == ("127.0.0.1", "hello")
    assert first["cwd"] == [".computilityignore", "output", "train.py"]
    assert second["cwd"] == [".computilityignore", "began", "output", "train.py"]
    assert "the first attempt fails" in out
    assert "Retrying: exit code 1 of rank 0, after 1 attempt" in err
    left = tenant.folder.parent / "results"
    assert [str(path.relative_to(left)) for path in left.rglob("*")] == ["model", "model/odd\nname"]
    assert "control has them already" in tenant.types("run", "-d", "--deadline", "1s", "--", "true")[2]
    eventually(lambda: probe.billed(tenant.name)["device_seconds"] > 0, what="the bill")


def test_its_exit_code_is_that_of_the_command(tenant: Tenant) -> None:
    assert tenant.types("run", "--no-folder", "--retries", "0", "--", "sh", "-c", "exit 7")[0] == 7


@pytest.mark.skipif(bool(why_not()), reason=f"no cells here: {why_not()}")
def test_it_sees_nothing_of_the_platform(tenant: Tenant) -> None:
    tenant.write(look=LOOK)
    code, out, err = tenant.types("run", "--name", "look", "--", "python", "look.py")
    assert code == 0, err
    seen = json.loads(out)
    assert (seen["uid"], seen["token"]) == (65534, False)
    assert [name.partition(".")[0] for name in seen["work"]] == ["look"]


def test_the_example_runs(tenant: Tenant) -> None:
    assert tenant.types("apply", "-f", str(EXAMPLE))[0] == 0
    assert tenant.types("jobs", "attach", "train", "-O", "left")[:2] == (0, "rank 0 of 1\n")
    assert (tenant.folder / "left" / "weights").read_text() == "3.0"


def test_ranks_find_each_other(tenant: Tenant, probe: Probe) -> None:
    spec = {
        "command": ["python", "-c", GANG],
        "replicas": 2,
        "devices": {"count": 1, "shareMillis": 250},
        "retries": 0,
    }
    metadata = {"name": "gang", "project": probe.project}
    tenant.client.apply({"apiVersion": API_VERSION, "kind": "Job", "metadata": metadata, "spec": spec})
    code, out, err = tenant.types("jobs", "attach", "gang")
    assert (code, out) == (0, "met 1\n"), err
    assert tenant.types("jobs", "attach", "gang", "--rank", "1")[0] == 0


def test_who_interrupts_ends_it(tenant: Tenant, probe: Probe) -> None:
    process = tenant.start("run", "--name", "long", "--no-folder", "--", "sh", "-c", "echo begun; sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    ranks = probe.rank_processes("long")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert tenant.client.get("jobs", "long", probe.project)["status"]["phase"] == "Cancelled"
    assert not [rank for rank in ranks if rank.is_running()]
    assert tenant.types("jobs", "cancel", "long")[1] == "job/long has ended: Cancelled\n"


def test_a_stranger_finds_nothing_of_it(
    running_platform: Running, tenant: Tenant, probe: Probe, tmp_path: Path
) -> None:
    others: list[dict[str, Any]] = [
        {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": "nosy"}, "spec": {}},
        {
            "apiVersion": API_VERSION,
            "kind": "Project",
            "metadata": {"name": "nosy"},
            "spec": {"tenant": "nosy"},
        },
    ]
    probe.admin.apply_all(others)
    stranger = Tenant(running_platform, probe, "nosy", "nosy", tmp_path / "theirs")
    tenant.write(train="open('output/weights', 'w').write('w')")
    assert tenant.types("run", "--name", "mine", "--", "python", "train.py")[0] == 0
    assert stranger.types("jobs", "attach", "mine", "-p", probe.project)[0] == 4
    file = tenant.client.get("jobs", "mine", probe.project)["status"]["artefacts"]
    for ask in (
        lambda: list(stranger.client.logs("mine", probe.project)),
        lambda: list(stranger.client.file_content(file, probe.project)),
        lambda: list(stranger.client.file_content(file)),
        lambda: stranger.client.delete("jobs", "mine", probe.project),
    ):
        with pytest.raises(NotFound):
            ask()
    assert tenant.types("jobs", "artefacts", "mine", "-O", "back")[0] == 0
    assert (tenant.folder / "back" / "weights").read_text() == "w"
    stranger.client.close()


def test_a_shell_takes_what_is_typed_and_ends_with_it(tenant: Tenant) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "control.cli.main", "shell", "--no-folder", "--name", "typed"],
        cwd=tenant.folder,
        env=tenant.environment,
        input=b'echo to""gether; exit 5\n',
        capture_output=True,
        timeout=120,
    )
    assert process.returncode == 5, process.stderr
    assert b"together" in process.stdout


@pytest.mark.skipif(bool(why_not()), reason=f"no cells here: {why_not()}")
def test_a_port_of_a_job_is_reached_from_here(tenant: Tenant, probe: Probe) -> None:
    tenant.write(serve=PORT)
    assert tenant.types("run", "-d", "--ports", "--name", "serves", "--", "python", "serve.py")[0] == 0

    def listens() -> bool:
        try:
            return "listens" in list(tenant.client.logs("serves", probe.project))
        except NotFound:
            return False

    eventually(listens, what="the port")
    forward = tenant.start("port-forward", "serves", "0:8888")
    assert forward.stderr is not None
    port = int(forward.stderr.readline().split(" ")[0].rpartition(":")[2])
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as here:
            here.sendall(b"this")
            assert here.recv(100) == b"heard this"
    forward.send_signal(signal.SIGINT)
    assert forward.wait(30) == 0
    assert tenant.types("jobs", "cancel", "serves")[0] == 0
