"""Layer8's document line by line: names, ports, node ports, health paths, resources, scaling, storage, secrets, order, Kind."""

import ipaddress
import re
import tomllib

import pytest
import yaml
from conftest import KUBERNETES, Layout, layout_of
import reachability

FORWARD, AUTH, REVERSE, FRONTEND, BACKEND = "forward-proxy", "auth-server", "reverse-proxy-sp1", "spa-frontend-sp1", "spa-backend-sp1"

# container port, service port, node port, health path (of HTTP), by the document's table
PORTS = {
    FORWARD: (6191, 6191, 30191, "/healthcheck"),
    AUTH: (5001, 5001, 30001, "/health"),
    REVERSE: (6193, 6193, None, "/l8_health_check"),
    FRONTEND: (5173, 5173, None, "/"),
    BACKEND: (3000, 3000, None, "/"),
    "postgres": (5432, 5432, 30432, None),
    "influxdb": (8086, 8086, 30086, "/health"),
    "telegraf": (4317, 4317, None, None),
}

# CPU request and limit, memory request and limit
RESOURCES = {
    FORWARD: ("500m", "2", "512Mi", "2Gi"),
    AUTH: ("250m", "1", "256Mi", "1Gi"),
    REVERSE: ("250m", "1", "512Mi", "2Gi"),
    FRONTEND: ("100m", "200m", "128Mi", "256Mi"),
    BACKEND: ("250m", "500m", "256Mi", "512Mi"),
    "postgres": ("250m", "1", "256Mi", "1Gi"),
    "influxdb": ("500m", "2", "512Mi", "2Gi"),
    "telegraf": ("50m", "250m", "64Mi", "256Mi"),
}

SCALED = {FORWARD: 3, AUTH: 2, REVERSE: 2, FRONTEND: 2, BACKEND: 2}


@pytest.fixture(scope="module")
def layer8() -> Layout:
    return layout_of("layer8")


def sidecar(layer8: Layout, name: str) -> dict:
    (found,) = [each for each in layer8.pod(name)["initContainers"] if each["name"] == "telegraf"]
    return found


def test_everything_is_in_the_namespace_layer8(layer8: Layout) -> None:
    (namespace,) = layer8.of_kind("Namespace")
    assert namespace["metadata"]["name"] == "layer8"
    assert {item["metadata"].get("namespace") for item in layer8.objects if item["kind"] != "Namespace"} == {"layer8"}


@pytest.mark.parametrize("name", PORTS)
def test_ports(layer8: Layout, name: str) -> None:
    container, service, node, _ = PORTS[name]
    assert container in [port["containerPort"] for port in layer8.main(name)["ports"]]
    ports = layer8.get("Service", name)["spec"]["ports"]
    assert service in [port["port"] for port in ports]
    assert layer8.get("Service", name)["spec"].get("type", "ClusterIP") == "ClusterIP"
    nodes = [port["nodePort"] for item in layer8.of_kind("Service") if item["spec"].get("type") == "NodePort" and item["metadata"]["name"] == f"{name}-node" for port in item["spec"]["ports"]]
    assert nodes == ([node] if node else [])


def test_statsd_is_udp_8125(layer8: Layout) -> None:
    assert {"name": "statsd", "port": 8125, "protocol": "UDP", "targetPort": "statsd"} in layer8.get("Service", "telegraf")["spec"]["ports"]
    for name in (*SCALED, ):
        assert {"name": "statsd", "containerPort": 8125, "protocol": "UDP"} in sidecar(layer8, name)["ports"]


@pytest.mark.parametrize("name", [name for name, line in PORTS.items() if line[3]])
def test_health_paths(layer8: Layout, name: str) -> None:
    container, _, _, path = PORTS[name]
    main = layer8.main(name)
    numbers = {port.get("name"): port["containerPort"] for port in main["ports"]}
    assert main["readinessProbe"]["httpGet"]["path"] == path
    assert numbers[main["readinessProbe"]["httpGet"]["port"]] == container
    # Ours say at the document's path what this process can do, a database among it; no restart mends that, so liveness is asked of the process.
    alive = (8090, "/health/live") if main["name"] == "orrery" else (container, path)
    for probe in ("startupProbe", "livenessProbe"):
        assert (numbers[main[probe]["httpGet"]["port"]], main[probe]["httpGet"]["path"]) == alive


@pytest.mark.parametrize("name", [FORWARD, REVERSE])
def test_a_proxy_serves_the_gateway_alone(layer8: Layout, name: str) -> None:
    """A service that is enabled beside it would be a condition of its readiness, and no policy lets a reverse proxy reach one."""
    main = layer8.main(name)
    assert main["args"] == ["serve", "gateway"]
    # A variable of the container wins over the environment's, and over the file.
    assert {"name": "ORRERY_SERVICES", "value": "gateway"} in main["env"]
    (config,) = [volume["configMap"]["name"] for volume in layer8.pod(name)["volumes"] if volume["name"] == "configuration"]
    assert 'services = ["gateway"]' in layer8.get("ConfigMap", config)["data"]["orrery.toml"]
    names = [each["name"] for each in main["env"]]
    if name == REVERSE:
        assert names.index("SP_ID") < names.index("ORRERY_GATEWAY__ROUTES")  # which names it


def test_postgres_is_asked_by_pg_isready(layer8: Layout) -> None:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "pg_isready" in layer8.main("postgres")[probe]["exec"]["command"][-1]


def test_telegraf_is_asked_at_its_otlp_port(layer8: Layout) -> None:
    """The document's `nc -z localhost 4317` asks whether something listens there; a TCP probe does, and needs no program in the image."""
    assert layer8.main("telegraf")["livenessProbe"]["tcpSocket"] == {"port": "otlp"}
    assert {"name": "otlp", "containerPort": 4317} in layer8.main("telegraf")["ports"]


@pytest.mark.parametrize("name", RESOURCES)
def test_resources(layer8: Layout, name: str) -> None:
    held = layer8.main(name)["resources"]
    assert (held["requests"]["cpu"], held["limits"]["cpu"], held["requests"]["memory"], held["limits"]["memory"]) == RESOURCES[name]


@pytest.mark.parametrize("name", SCALED)
def test_every_pod_of_proxies_auth_server_and_provider_has_a_telegraf(layer8: Layout, name: str) -> None:
    held = sidecar(layer8, name)
    assert held["restartPolicy"] == "Always"
    requests, limits = held["resources"]["requests"], held["resources"]["limits"]
    assert (requests["cpu"], limits["cpu"], requests["memory"], limits["memory"]) == RESOURCES["telegraf"]
    assert {"name": "otlp", "containerPort": 4317} in held["ports"]
    assert held["volumeMounts"] == [{"name": "telegraf", "mountPath": "/etc/telegraf", "readOnly": True}]
    names = [volume["configMap"]["name"] for volume in layer8.pod(name)["volumes"] if volume["name"] == "telegraf"]
    assert names[0].startswith("telegraf-config")
    secrets = {each["valueFrom"]["secretKeyRef"]["name"]: None for each in held["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    keys = {each["valueFrom"]["secretKeyRef"]["key"] for each in held["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert set(secrets) == {"layer8-secrets"} and keys == {"influxdb-token", "influxdb-org", "influxdb-bucket"}


def test_telegraf_takes_otlp_and_statsd_and_writes_to_influxdb(layer8: Layout) -> None:
    (config,) = [item for item in layer8.of_kind("ConfigMap") if item["metadata"]["name"].startswith("telegraf-config")]
    text = config["data"]["telegraf.conf"]
    for line in ("[[inputs.opentelemetry]]", ":4317", "[[inputs.statsd]]", ":8125", 'protocol = "udp"', "[[outputs.influxdb_v2]]", "http://influxdb:8086", "${INFLUX_TOKEN}", "${INFLUX_ORG}", "${INFLUX_BUCKET}"):
        assert line in text


@pytest.mark.parametrize("name", SCALED)
def test_scaling(layer8: Layout, name: str) -> None:
    spec = layer8.get("HorizontalPodAutoscaler", name)["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (SCALED[name], 10)
    assert {each["resource"]["name"]: each["resource"]["target"] for each in spec["metrics"]} == {
        "cpu": {"type": "Utilization", "averageUtilization": 70},
        "memory": {"type": "Utilization", "averageUtilization": 80},
    }
    up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0 and up["selectPolicy"] == "Max"
    assert sorted((each["type"], each["value"], each["periodSeconds"]) for each in up["policies"]) == [("Percent", 100, 30), ("Pods", 2, 30)]
    assert down["stabilizationWindowSeconds"] == 300
    assert [(each["type"], each["value"], each["periodSeconds"]) for each in down["policies"]] == [("Percent", 50, 60)]


def test_autoscaling_is_of_these_five(layer8: Layout) -> None:
    assert {item["metadata"]["name"] for item in layer8.of_kind("HorizontalPodAutoscaler")} == set(SCALED)


def test_ingress(layer8: Layout) -> None:
    assert leads(layer8, "/") == leads(layer8, "/login") == leads(layer8, "/authors") == (FORWARD, None)
    for name in (FORWARD, AUTH):
        assert layer8.get("Service", name)["spec"]["ports"][0]["name"] == "http"


def leads(layer8: Layout, path: str) -> tuple[str, str | None]:
    """Where the controller leads a path of layer8.local, and what it rewrites it to; as NGINX does, the longest pattern first."""
    found = []
    for ingress in layer8.of_kind("Ingress"):
        (rule,) = ingress["spec"]["rules"]
        assert rule["host"] == "layer8.local" and ingress["spec"]["ingressClassName"] == "nginx"
        rewrite = ingress["metadata"].get("annotations", {}).get("nginx.ingress.kubernetes.io/rewrite-target")
        for each in rule["http"]["paths"]:
            # One rewrite makes every path of a host an expression, those of other Ingress objects too.
            match = re.match(each["path"], path, re.IGNORECASE)
            if match:
                to = re.sub(r"\$(\d)", lambda group: match[int(group[1])] or "", rewrite) if rewrite else None
                found.append((len(each["path"]), each["backend"]["service"]["name"], to))
    return max(found)[1:]


@pytest.mark.parametrize("path, seen", [("/auth/login", "/login"), ("/auth", "/"), ("/auth/", "/"), ("/auth/.well-known/jwks.json", "/.well-known/jwks.json")])
def test_the_ingress_takes_auth_off(layer8: Layout, path: str, seen: str) -> None:
    """Autha has /login and not /auth/login."""
    assert leads(layer8, path) == (AUTH, seen)
    (ingress,) = [item for item in layer8.of_kind("Ingress") if item["metadata"]["name"] == "layer8-auth"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/use-regex"] == "true"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "ImplementationSpecific"
    # Links and the issuer are what people see.
    (environment,) = [item["data"] for item in layer8.of_kind("ConfigMap") if item["metadata"]["name"].startswith("environment")]
    assert environment["ORRERY_AUTHA__PUBLIC_URL"] == "http://layer8.local/auth"


@pytest.mark.parametrize("name, claim, path, size", [("postgres", "postgres-pvc", "/var/lib/postgresql/data", "20Gi"), ("influxdb", "influxdb-pvc", "/var/lib/influxdb2", "10Gi")])
def test_storage(layer8: Layout, name: str, claim: str, path: str, size: str) -> None:
    assert layer8.get("StatefulSet", name)["spec"]["replicas"] == 1  # so the pod is postgres-0, influxdb-0
    volumes = {volume["name"]: volume for volume in layer8.pod(name)["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim
    assert {"name": "data", "mountPath": path} in layer8.main(name)["volumeMounts"]
    spec = layer8.get("PersistentVolumeClaim", claim)["spec"]
    assert spec["accessModes"] == ["ReadWriteOnce"] and spec["resources"]["requests"]["storage"] == size and "storageClassName" not in spec


def test_postgres_runs_what_the_config_map_postgres_init_holds(layer8: Layout) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in layer8.main("postgres")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in layer8.pod("postgres")["volumes"]}
    assert volumes[mounts["/docker-entrypoint-initdb.d"]]["configMap"] == {"name": "postgres-init", "optional": True}


def secrets_of(pod: dict) -> set[str]:
    found = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    for container in pod["containers"] + pod.get("initContainers", []):
        found |= {each["secretRef"]["name"] for each in container.get("envFrom", []) if "secretRef" in each}
        found |= {each["valueFrom"]["secretKeyRef"]["name"] for each in container.get("env", []) if "secretKeyRef" in each.get("valueFrom", {})}
    return found


@pytest.mark.parametrize("name, secret", [(AUTH, "auth-setup-secrets"), ("postgres", "postgres-standalone-secret"), ("influxdb", "influxdb-standalone-secret"),
                                          (FORWARD, "forward-proxy-standalone-secret"), (REVERSE, "reverse-proxy-standalone-secret"),
                                          (FRONTEND, "spa-frontend-secret"), (BACKEND, "spa-backend-secret")])
def test_secrets_by_name_and_use(layer8: Layout, name: str, secret: str) -> None:
    assert secrets_of(layer8.pod(name)) - {"layer8-secrets"} == {secret}
    users = [item["metadata"]["name"] for item in layer8.workloads() if secret in secrets_of(item["spec"]["template"]["spec"])]
    assert users == [name]


def test_layer8_secrets_is_for_telegraf_alone(layer8: Layout) -> None:
    for item in layer8.workloads():
        pod = item["spec"]["template"]["spec"]
        for container in pod["containers"] + pod.get("initContainers", []):
            names = {each["valueFrom"]["secretKeyRef"]["name"] for each in container.get("env", []) if "secretKeyRef" in each.get("valueFrom", {})}
            assert "layer8-secrets" not in names or container["name"] == "telegraf"


def test_auth_setup_is_an_init_container_that_migrates(layer8: Layout) -> None:
    inits = [each for each in layer8.pod(AUTH)["initContainers"] if each.get("restartPolicy") != "Always"]
    assert [(each["name"], each["image"], each["args"]) for each in inits] == [("auth-setup", layer8.main(AUTH)["image"], ["migrate"])]


def test_influxdb_is_asked_by_its_sidecars(layer8: Layout) -> None:
    envs = [each["secretRef"]["name"] for each in layer8.main("influxdb")["envFrom"]]
    assert envs == ["influxdb-standalone-secret"]


def test_names_of_the_document_without_the_providers_id(layer8: Layout) -> None:
    for name, port in (("reverse-proxy", 6193), ("spa-frontend", 5173), ("spa-backend", 3000)):
        spec = layer8.get("Service", name)["spec"]
        assert spec["ports"][0]["port"] == port and spec["selector"]["sp-id"] == "sp1"


def test_what_is_shared_has_no_sp_id(layer8: Layout) -> None:
    labelled = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"].get("sp-id") for item in layer8.workloads()}
    assert {name for name, provider in labelled.items() if provider == "sp1"} == {REVERSE, FRONTEND, BACKEND}
    assert all(labelled[name] is None for name in (AUTH, FORWARD, "postgres", "influxdb"))


ORDER = [{"Namespace"}, {"ConfigMap", "PersistentVolumeClaim", "ServiceAccount"}, {"StatefulSet", "Deployment"}, {"Ingress"}]


def test_order(layer8: Layout) -> None:
    """Namespace, configuration and storage, workloads, ingress: what kubectl applies in turn. What waits for what among the workloads is decided by
    the init container and by probes, not by the order of files."""
    places = {kind: min(index for index, item in enumerate(layer8.objects) if item["kind"] == kind) for kinds in ORDER for kind in kinds}
    last = -1
    for kinds in ORDER:
        first = min(places[kind] for kind in kinds)
        assert first > last
        last = max(places[kind] for kind in kinds)


def listeners(layer8: Layout, name: str) -> list[dict]:
    """The gateway's listeners of a container, as TOML."""
    (text,) = [each["value"] for each in layer8.main(name)["env"] if each["name"] == "ORRERY_GATEWAY__LISTENERS"]
    return tomllib.loads(f"x = {text}".replace("\n", " "))["x"]


@pytest.mark.parametrize("name, port", [(FORWARD, 6191), (AUTH, 5001)])
def test_callers_behind_the_ingress_are_told_apart_and_nobody_else_is_believed(layer8: Layout, name: str, port: int) -> None:
    """The ingress controller is the only one of the trusted network that a policy lets in; who comes by a node port has an address of another one."""
    (pods,) = [yaml.safe_load((KUBERNETES / "overlays" / "layer8" / "kind.yaml").read_text())["networking"]["podSubnet"]]
    (listener,) = [each for each in listeners(layer8, name) if each["address"] == f"0.0.0.0:{port}"]
    assert listener["trusted"] == [pods]
    target = {FORWARD: "gateway-forward", AUTH: "autha"}[name]
    reach = {source for source, to, number in reachability.table(layer8.objects) if (to, number) == (target, str(port))}
    assert reach == {"ingress-nginx", "world"}
    (pod,) = [each for each in reachability.pods(layer8.objects) if each.name == target]
    inside = reachability.Pod("any", None, {}, address=str(next(ipaddress.ip_network(pods).hosts())))
    assert not reachability.Policies(layer8.objects).allows(pod, "Ingress", inside, reachability.Port(port))


def test_a_backend_cannot_claim_its_callers_address(layer8: Layout) -> None:
    """It comes in by a listener of its own that believes nobody; autha itself listens on the loopback alone, behind the gateway of its process."""
    (listener,) = [each for each in listeners(layer8, AUTH) if "trusted" not in each]
    assert listener == {"role": "api", "address": "0.0.0.0:5002"}
    table = reachability.table(layer8.objects)
    assert {(source, port) for source, target, port in table if target == "autha" and source.startswith(("backend", "frontend", "gateway"))} == {("backend-sp1", "5002")}
    assert {source for source, target, port in table if (target, port) == ("autha", "5002")} == {"backend-sp1"}
    assert layer8.main(AUTH)["args"] == ["serve", "gateway", "autha"]
    assert {"name": "ORRERY_AUTHA__LISTEN", "value": "127.0.0.1:8081"} in layer8.main(AUTH)["env"]
    assert {"name": "providers", "port": 5002, "targetPort": "providers"} in layer8.get("Service", AUTH)["spec"]["ports"]


def test_a_reverse_proxy_does_not_count_all_callers_as_one(layer8: Layout) -> None:
    """It sees the forward proxy's pods, which have counted: no budget of requests, and no bound of connections, since they are trusted."""
    (listener,) = listeners(layer8, REVERSE)
    assert any(ipaddress.ip_network("10.244.0.0/16").subnet_of(ipaddress.ip_network(each)) for each in listener["trusted"] if ":" not in each)
    assert {"name": "ORRERY_GATEWAY__RATES__ENABLED", "value": "false"} in layer8.main(REVERSE)["env"]
    assert {source for source, target, port in reachability.table(layer8.objects) if (target, port) == ("gateway-reverse-sp1", "6193")} == {"gateway-forward", "autha"}


def test_kind_maps_the_documents_ports() -> None:
    kind = yaml.safe_load((KUBERNETES / "overlays" / "layer8" / "kind.yaml").read_text())
    assert (kind["kind"], kind["apiVersion"], kind["name"]) == ("Cluster", "kind.x-k8s.io/v1alpha4", "layer8-dev-001")
    (node,) = kind["nodes"]
    assert {each["hostPort"]: each["containerPort"] for each in node["extraPortMappings"]} == {80: 80, 443: 443, 5001: 30001, 5432: 30432, 6191: 30191, 8086: 30086}
    assert {each["listenAddress"] for each in node["extraPortMappings"]} == {"127.0.0.1"}
