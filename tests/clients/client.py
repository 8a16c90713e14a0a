"""What programs do with the official Python client: typed, dynamic, watch, exec and port-forward."""

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.stream import portforward, stream

config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()
NAMESPACE = "default"


def pod(name):
    container = {"name": "c", "command": ["knarr", "echo"]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def is_ready(pod):
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])


def events_until(enough, **selection):
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, timeout_seconds=20, **selection):
        seen.append(event["type"])
        if enough(event):
            return seen
    raise AssertionError(f"only {seen}")


def typed():
    assert core.create_namespaced_pod(NAMESPACE, pod("py")).metadata.uid
    seen = events_until(lambda event: is_ready(event["object"]), label_selector="app=py")
    assert seen[0] == "ADDED" and seen[-1] == "MODIFIED", seen
    labels = core.patch_namespaced_pod("py", NAMESPACE, {"metadata": {"labels": {"a": "b"}}}).metadata.labels
    assert labels == {"a": "b", "app": "py"}, labels
    stale = core.read_namespaced_pod("py", NAMESPACE)
    stale.metadata.annotations = {"x": "y"}
    assert core.replace_namespaced_pod("py", NAMESPACE, stale).metadata.annotations == {"x": "y"}
    refused(409, lambda: core.replace_namespaced_pod("py", NAMESPACE, stale))
    refused(404, lambda: core.read_namespaced_pod("nope", NAMESPACE))
    refused(422, lambda: core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "No"}, "spec": {"containers": []}}))


def refused(status, call):
    try:
        call()
    except client.ApiException as error:
        assert error.status == status, error
    else:
        raise AssertionError(f"{status} expected")


def every_list():
    """The models check what they read, so that reading is a test of its own."""
    lists = {
        core: ["pod", "service", "config_map", "secret", "event", "service_account", "endpoints"],
        apps: ["deployment", "replica_set", "stateful_set", "daemon_set", "controller_revision"],
        client.BatchV1Api(): ["job", "cron_job"],
        client.DiscoveryV1Api(): ["endpoint_slice"],
        client.CoordinationV1Api(): ["lease"],
        client.RbacAuthorizationV1Api(): ["role", "role_binding"],
    }
    for api, names in lists.items():
        for name in names:
            getattr(api, f"list_{name}_for_all_namespaces")()
    assert core.list_node().items[0].metadata.name == "node-1"
    assert {"default", "kube-system"} <= {one.metadata.name for one in core.list_namespace().items}
    assert client.NetworkingV1Api().list_ip_address().items
    assert client.NetworkingV1Api().list_service_cidr().items
    assert client.RbacAuthorizationV1Api().list_cluster_role().items
    assert client.VersionApi().get_code().git_version.startswith("v1.37")
    first = core.list_config_map_for_all_namespaces(limit=1)
    assert len(first.items) == 1 and first.metadata._continue


def streams():
    def run(**options):
        call = core.connect_get_namespaced_pod_exec
        return stream(call, "py", NAMESPACE, stdout=True, stderr=True, tty=False, **options)

    both = run(command=["sh", "-c", "echo out; echo err >&2"], stdin=False)
    # Two pipes: which is read first is chance.
    assert sorted(both.split()) == ["err", "out"]
    session = run(command=["sh"], stdin=True, _preload_content=False)
    session.write_stdin("echo hi\n")
    assert session.readline_stdout(timeout=10) == "hi"
    session.write_stdin("exit 7\n")
    session.run_forever(timeout=10)
    assert session.returncode == 7, session.returncode
    socket = portforward(core.connect_get_namespaced_pod_portforward, "py", NAMESPACE, ports="8080").socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.1\r\nHost: py\r\nConnection: close\r\n\r\n")
    answer = b"".join(iter(lambda: socket.recv(4096), b""))
    assert answer.endswith(b"You've hit py\n"), answer
    assert core.read_namespaced_pod_log("py", NAMESPACE) is not None


def untyped():
    dynamically = dynamic.DynamicClient(client.ApiClient())
    maps = dynamically.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn"}, "data": {"a": "b"}}
    maps.create(namespace=NAMESPACE, body=body)
    body["data"] = {"c": "d"}
    maps.server_side_apply(namespace=NAMESPACE, name="dyn", body=body, field_manager="py")
    assert maps.get(name="dyn", namespace=NAMESPACE).data.to_dict() == {"a": "b", "c": "d"}
    maps.delete(name="dyn", namespace=NAMESPACE)
    pods = dynamically.resources.get(api_version="v1", kind="Pod")
    seen = [event["object"].metadata.name for event in pods.watch(namespace=NAMESPACE, label_selector="app=py", timeout=1)]
    assert seen == ["py"], seen


def workloads():
    template = {"metadata": {"labels": {"app": "many"}}, "spec": pod("many")["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "many"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec}
    utils.create_from_dict(client.ApiClient(), deployment)
    scaled = apps.patch_namespaced_deployment_scale("many", NAMESPACE, {"spec": {"replicas": 2}})
    assert scaled.spec.replicas == 2
    ready = set()

    def both(event):
        if is_ready(event["object"]):
            ready.add(event["object"].metadata.name)
        return len(ready) == 2

    events_until(both, label_selector="app=many")
    apps.delete_namespaced_deployment("many", NAMESPACE)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "py"}}
    core.create_namespaced_pod_eviction("py", NAMESPACE, eviction)
    events_until(lambda event: event["type"] == "DELETED", label_selector="app=py")
    core.delete_collection_namespaced_pod(NAMESPACE, label_selector="app=many")


for step in (typed, every_list, streams, untyped, workloads):
    step()
    print(step.__name__)
print("all is well")
