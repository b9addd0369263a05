"""The test kubelet itself: what pods are given, and how they are probed, started again and ended."""

import base64
import json
import time
from typing import Any

import pytest

from tests.fixtures.kube.kubelet.manifests import container, job, pod, pod_spec, replicated
from tests.integration.kubernetes.conftest import Space

pytestmark = pytest.mark.integration
FIELDS = {
    "NAME": "metadata.name",
    "SPACE": "metadata.namespace",
    "NODE": "spec.nodeName",
    "IP": "status.podIP",
}
SLEEP = "import time; time.sleep(600)"


def told(space: Space, name: str) -> Any:
    """What a Job's pod printed as JSON, once it has succeeded."""
    space.wait(f"job/{name}", "condition=complete")
    return json.loads(space.log(name).splitlines()[-1])


def test_environment_of_all_kinds(space: Space) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"A": "1", "B": "2"},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"key": base64.b64encode(b"hush").decode()},
    }
    env: list[dict[str, Any]] = [
        *({"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in FIELDS.items()),
        {"name": "A", "value": "own"},
        {"name": "URL", "value": "http://$(IP):80/$(NOBODY)/$$(IP)"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "NOT", "valueFrom": {"secretKeyRef": {"name": "no", "key": "x", "optional": True}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    code = (
        "import os, sys, json; print(json.dumps([dict(os.environ), sys.argv[1:], os.getcwd(), os.getpid()]))"
    )
    main = container(
        code,
        args=["$(A)"],
        env=env,
        envFrom=[{"prefix": "X_", "configMapRef": {"name": "c"}}, {"configMapRef": {"name": "c"}}],
        workingDir="/usr",
        resources={"limits": {"memory": "64Mi"}},
    )
    space.apply(config, secret, job("env", pod_spec(main)))
    found, arguments, folder, number = told(space, "env")
    assert (found["A"], found["B"], found["X_A"]) == ("own", "2", "1")
    assert found["URL"] == f"http://{found['IP']}:80/$(NOBODY)/$(IP)"
    assert (found["KEY"], found["MEM"], found["SPACE"]) == ("hush", "64", space.name)
    assert found["NODE"] in ("node-1", "node-2")
    assert found["NAME"] == found["HOSTNAME"]
    assert "NOT" not in found
    assert (arguments, folder, number) == (["own"], "/usr", 1)
    assert "KUBEBUILDER_ASSETS" not in found


def test_volumes_of_all_kinds_and_another_user(space: Space) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"a": "1", "b": "2"},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "p"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    token = {"serviceAccountToken": {"path": "token", "audience": "me"}}
    label = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    volumes = [
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "deep/a"}]}},
        {"name": "all", "projected": {"sources": [token, {"downwardAPI": {"items": [label]}}]}},
        {"name": "shared", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "kept", "persistentVolumeClaim": {"claimName": "p"}},
        {"name": "one", "configMap": {"name": "c"}},
    ]
    first = container(
        "open('/shared/x', 'w').write('from init')",
        "first",
        volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
    )
    code = """
        import json, os
        def refused(path):
            try: open(path, 'w').close(); return False
            except OSError: return True
        open('/kept/y', 'w').write('kept'); open('/tmp/z', 'w').close()
        print(json.dumps({
            'config': open('/config/deep/a').read(), 'token': open('/all/token').read().count('.'),
            'name': open('/all/name').read(), 'shared': open('/shared/x').read(),
            'one': open('/etc/one').read(),
            'user': [os.getuid(), os.getgid(), os.getgroups()], 'root': refused('/usr/new'),
            'config refused': refused('/config/x'), 'account': os.listdir(
                '/var/run/secrets/kubernetes.io/serviceaccount')}))
    """
    main = container(
        code,
        securityContext={"runAsUser": 1234, "runAsGroup": 1235, "readOnlyRootFilesystem": True},
        volumeMounts=[
            {"name": "config", "mountPath": "/config", "readOnly": True},
            {"name": "all", "mountPath": "/all"},
            {"name": "shared", "mountPath": "/shared"},
            {"name": "memory", "mountPath": "/tmp"},
            {"name": "kept", "mountPath": "/kept", "subPath": "below"},
            {"name": "one", "mountPath": "/etc/one", "subPath": "b"},
        ],
    )
    spec = pod_spec(main, volumes=volumes, initContainers=[first], securityContext={"fsGroup": 1236})
    space.apply(config, claim, job("vols", spec))
    found = told(space, "vols")
    assert (found["config"], found["token"], found["shared"], found["one"]) == ("1", 2, "from init", "2")
    assert found["name"].startswith("vols-")
    assert found["user"] == [1234, 1235, [1236]]
    assert found["root"]
    assert found["config refused"]
    assert {"token", "ca.crt", "namespace"} <= set(found["account"])
    again = container(
        "print(open('/kept/below/y').read())", volumeMounts=[{"name": "kept", "mountPath": "/kept"}]
    )
    space.apply(job("later", pod_spec(again, volumes=volumes[4:5])))
    space.wait("job/later", "condition=complete")
    assert space.log("later") == "kept\n"


def test_a_config_map_that_changes_is_seen_in_running_pods(space: Space) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "old"}}
    code = "import time\nwhile open('/c/a').read() != 'new': time.sleep(0.1)"
    main = container(code, volumeMounts=[{"name": "c", "mountPath": "/c"}])
    space.apply(config, job("see", pod_spec(main, volumes=[{"name": "c", "configMap": {"name": "c"}}])))
    space.wait("job/see", "jsonpath={.status.active}=1")
    space.apply({**config, "data": {"a": "new"}})
    space.wait("job/see", "condition=complete")


def test_a_pod_waits_for_what_it_names(space: Space) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]
    space.apply(pod("waits", pod_spec(container(SLEEP, env=env))))
    space.wait(
        "pod/waits", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    )
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"a": "1"}}
    space.apply(config)
    space.wait("pod/waits", "condition=Ready")


def test_a_container_that_fails_its_liveness_is_started_again(space: Space) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    code = "import time; time.sleep(1.5); open('/sick', 'w').close(); time.sleep(600)"
    space.apply(pod("sick", pod_spec(container(code, livenessProbe=probe), terminationGracePeriodSeconds=0)))
    space.wait("pod/sick", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    last = space.get("pod", "sick")["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 137


def test_liveness_is_asked_after_the_start_only(space: Space) -> None:
    code = "import time; time.sleep(2); open('/up', 'w').close(); time.sleep(600)"
    up = {"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    main = container(code, startupProbe={**up, "failureThreshold": 30}, livenessProbe=up, readinessProbe=up)
    space.apply(pod("slow", pod_spec(main)))
    space.wait("pod/slow", "condition=Ready")
    assert space.get("pod", "slow")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_the_end_of_a_pod_hook_then_signal_then_force(space: Space) -> None:
    code = """
        import signal, time
        print('up', flush=True)
        signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))
        while True: time.sleep(0.1)
    """
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 0.5; echo hook >>/proc/1/fd/1"]}}}
    space.apply(pod("ends", pod_spec(container(code, lifecycle=hook))))
    space.wait("pod/ends", "condition=Ready")
    time.sleep(0.5)
    began = time.monotonic()
    space.kubectl("delete", "pod", "ends", "--grace-period=3")
    assert 2.5 < time.monotonic() - began < 10
    assert space.log("ends").split() == ["up", "hook", "term"]


def test_a_job_that_fails_says_so(space: Space) -> None:
    space.apply(job("bad", pod_spec(container("raise SystemExit(7)"))))
    space.wait("job/bad", "condition=failed")
    (found,) = space.get("pods")["items"]
    assert found["status"]["phase"] == "Failed"
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


def test_an_init_container_that_fails_is_tried_again_before_the_others(space: Space) -> None:
    volume = {"name": "v", "emptyDir": {}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    code = "import os; open('/v/tries', 'a').write('x'); raise SystemExit(os.path.getsize('/v/tries') < 3)"
    first = container(code, "first", volumeMounts=mounts)
    main = container("print(open('/v/tries').read())", volumeMounts=mounts)
    spec = pod_spec(main, initContainers=[first], volumes=[volume], restartPolicy="OnFailure")
    space.apply(job("tries", spec, retries=6))
    space.wait("job/tries", "condition=complete")
    assert space.log("tries") == "xxx\n"


def test_containers_see_each_others_processes_only_where_they_share_them(space: Space) -> None:
    code = "import os; print(sum(one.isdigit() for one in os.listdir('/proc')), flush=True)"
    two = [
        container("import time; time.sleep(600)", "other"),
        container(f"import time; time.sleep(1)\n{code}; time.sleep(600)"),
    ]
    space.apply(pod("apart", pod_spec(*two)), pod("together", pod_spec(*two, shareProcessNamespace=True)))
    for name in ("apart", "together"):
        space.wait(f"pod/{name}", "condition=Ready")
    deadline = time.monotonic() + 10
    while not (space.log("apart") and space.log("together")):
        assert time.monotonic() < deadline, space.cluster.kubelet.report()
        time.sleep(0.1)
    assert (int(space.log("apart")), int(space.log("together"))) == (1, 3)


def test_the_scheduler_gives_away_what_the_nodes_have(space: Space) -> None:
    main = container(SLEEP, resources={"limits": {"nvidia.com/gpu": "2"}})
    space.apply(pod("first", pod_spec(main)))
    space.wait("pod/first", "condition=Ready")
    space.apply(pod("second", pod_spec(main)))
    space.wait("pod/second", "condition=PodScheduled=false")
    space.kubectl("delete", "pod", "first")
    space.wait("pod/second", "condition=Ready")


def test_a_deployment_is_rolled_over(space: Space) -> None:
    spec = pod_spec(container("import os, time; print(os.environ['V'], flush=True); time.sleep(600)"))
    for version in ("1", "2"):
        spec["containers"][0]["env"] = [{"name": "V", "value": version}]
        space.apply(replicated("Deployment", "rolled", spec, 2))
        space.kubectl("rollout", "status", "deployment/rolled", "--timeout=30s")
    assert sorted(space.log("rolled").split()) == ["1", "1", "2", "2"]
