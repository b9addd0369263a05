"""Names and addresses of Services in the test kubelet, also as the API server uses them for webhooks."""

import base64
import json
import time
from pathlib import Path

import pytest

from tests.fixtures.kube.keys import Authority
from tests.fixtures.kube.kubelet.manifests import container, job, pod_spec, replicated, service
from tests.integration.kubernetes.conftest import Space

pytestmark = pytest.mark.integration
SERVER = """
    import http.server, os, socket
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if os.path.exists('/ready') or self.path != '/ready' else 503)
            self.end_headers(); self.wfile.write(socket.gethostname().encode())
    if not os.environ.get('LATE'): open('/ready', 'w').close()
    http.server.ThreadingHTTPServer((os.environ['IP'], 8080), Answer).serve_forever()
"""
ADDRESS = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
READY = {"httpGet": {"path": "/ready", "port": "web"}, "periodSeconds": 1}
PORTS = [{"name": "web", "containerPort": 8080}]


def ask(space: Space, name: str, *urls: str) -> list[str]:
    """What a pod reads at the URLs, or ``refused``."""
    code = f"""
        import urllib.request, json
        def read(url):
            try: return urllib.request.urlopen(url, timeout=5).read().decode()
            except OSError: return 'refused'
        print(json.dumps([read(url) for url in {urls!r}]))
    """
    space.apply(job(name, pod_spec(container(code))))
    space.wait(f"job/{name}", "condition=complete")
    found: list[str] = json.loads(space.log(name))
    return found


def test_a_service_leads_to_its_ready_pods_in_turn(space: Space) -> None:
    main = container(SERVER, env=[ADDRESS], ports=PORTS, readinessProbe=READY)
    space.apply(replicated("Deployment", "web", pod_spec(main), 2), service("web", 80, "web"))
    space.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    names = ["web", f"web.{space.name}", f"web.{space.name}.svc", f"web.{space.name}.svc.cluster.local"]
    found = ask(space, "ask", *(f"http://{name}/" for name in names))
    pods = [one["metadata"]["name"] for one in space.get("pods", "-lapp=web")["items"]]
    assert sorted(set(found)) == sorted(pods)


def test_a_service_without_ready_pods_refuses(space: Space) -> None:
    main = container(SERVER, env=[ADDRESS, {"name": "LATE", "value": "1"}], ports=PORTS, readinessProbe=READY)
    space.apply(replicated("Deployment", "web", pod_spec(main)), service("web", 80, "web"))
    space.wait("deployment/web", "jsonpath={.status.unavailableReplicas}=1")
    assert ask(space, "ask", "http://web/") == ["refused"]


def test_the_pods_of_a_stateful_set_have_names(space: Space) -> None:
    main = container(SERVER, env=[ADDRESS], ports=PORTS, readinessProbe=READY)
    headless = service("db", 8080, "web", clusterIP="None")
    space.apply(replicated("StatefulSet", "db", pod_spec(main), 2), headless)
    space.kubectl("rollout", "status", "statefulset/db", "--timeout=30s")
    urls = ["http://db-1.db:8080/", f"http://db-0.db.{space.name}.svc.cluster.local:8080/"]
    assert ask(space, "ask", *urls) == ["db-1", "db-0"]


def test_pods_reach_the_api_server_with_their_own_account(space: Space) -> None:
    code = """
        import json, os, ssl, urllib.request
        account = '/var/run/secrets/kubernetes.io/serviceaccount'
        context = ssl.create_default_context(cafile=f'{account}/ca.crt')
        head = {'Authorization': 'Bearer ' + open(f'{account}/token').read()}
        found = []
        for host in ('kubernetes.default.svc', os.environ['KUBERNETES_SERVICE_HOST']):
            url = f'https://{host}:{os.environ["KUBERNETES_SERVICE_PORT"]}/api'
            asked = urllib.request.Request(url, headers=head)
            found.append(urllib.request.urlopen(asked, context=context).status)
        print(json.dumps(found))
    """
    space.apply(job("asks", pod_spec(container(code))))
    space.wait("job/asks", "condition=complete")
    assert json.loads(space.log("asks")) == [200, 200]


def test_services_are_told_in_the_environment_unless_not_wanted(space: Space) -> None:
    space.apply(service("my-web", 80, 8080))
    time.sleep(0.5)
    code = "import os, json; print(json.dumps(os.environ.get('MY_WEB_PORT')))"
    space.apply(
        job("yes", pod_spec(container(code))), job("no", pod_spec(container(code), enableServiceLinks=False))
    )
    for name in ("yes", "no"):
        space.wait(f"job/{name}", "condition=complete")
    assert json.loads(space.log("yes")).startswith("tcp://10.")
    assert json.loads(space.log("no")) is None


def test_the_api_server_reaches_a_webhook_by_its_service(space: Space, tmp_path: Path) -> None:
    host = f"hook.{space.name}.svc"
    authority = Authority(tmp_path)
    certificate, key = authority.server("hook", hosts=(host,))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hook"},
        "data": {
            "tls.crt": base64.b64encode(certificate.read_bytes()).decode(),
            "tls.key": base64.b64encode(key.read_bytes()).decode(),
        },
    }
    code = """
        import http.server, json, os, ssl
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers['content-length'])))
                said = {'uid': asked['request']['uid'], 'allowed': False}
                said['status'] = {'message': 'not on a Monday'}
                body = json.dumps({**asked, 'response': said}).encode()
                self.send_response(200); self.send_header('content-length', str(len(body)))
                self.end_headers(); self.wfile.write(body)
        server = http.server.ThreadingHTTPServer((os.environ['IP'], 9443), Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain('/tls/tls.crt', '/tls/tls.key')
        server.socket = context.wrap_socket(server.socket, server_side=True); server.serve_forever()
    """
    main = container(
        code,
        env=[ADDRESS],
        readinessProbe={"tcpSocket": {"port": 9443}, "periodSeconds": 1},
        volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
    )
    spec = pod_spec(main, volumes=[{"name": "tls", "secret": {"secretName": "hook"}}])
    space.apply(secret, replicated("Deployment", "hook", spec), service("hook", 443, 9443))
    space.kubectl("rollout", "status", "deployment/hook", "--timeout=30s")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    hook = {
        "name": "hook.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {
            "service": {"namespace": space.name, "name": "hook", "path": "/"},
            "caBundle": base64.b64encode(authority.path.read_bytes()).decode(),
        },
        "namespaceSelector": {"matchLabels": {"hooked": "yes"}},
        "rules": [rule],
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": space.name},
        "webhooks": [hook],
    }
    space.kubectl("label", "namespace", space.name, "hooked=yes")
    space.apply(configuration)
    try:
        _refused_by_the_hook(space)
    finally:
        space.kubectl("delete", "validatingwebhookconfiguration", space.name)


def _refused_by_the_hook(space: Space) -> None:
    deadline = time.monotonic() + 15
    for number in range(1000):
        result = space.cluster.plane.try_kubectl(
            f"--namespace={space.name}", "create", "configmap", f"refused-{number}"
        )
        if "not on a Monday" in result.stderr:
            return
        assert time.monotonic() < deadline, result.stderr
        time.sleep(0.2)
