"""Lines of the documents' checklist that are about what the gateway does, what is sent where, and what has to be encrypted; the others stand in the tests of each layout."""

import tomllib
from urllib.parse import urlsplit

import pytest
from conftest import Layout, layout_of, ours
import reachability
import test_binary
import test_parts


def settings(layout: Layout, name: str) -> dict[str, str]:
    """The variables of a workload's first container, those of the environment among them, with their references resolved."""
    (item,) = [each for each in layout.workloads() if each["metadata"]["name"] == name]
    labels, container = item["spec"]["template"]["metadata"]["labels"], layout.main(name)
    found: dict[str, str] = {}
    for each in container.get("envFrom", []):
        if "configMapRef" in each:
            found |= layout.get("ConfigMap", each["configMapRef"]["name"])["data"]
    for each in container.get("env", []):
        if "value" in each:
            value = each["value"]
            for known, text in found.items():
                value = value.replace(f"$({known})", text)
            found[each["name"]] = value
        elif "fieldRef" in each.get("valueFrom", {}) and "sp-id" in each["valueFrom"]["fieldRef"]["fieldPath"]:
            found[each["name"]] = labels["sp-id"]
    return found


def file_of(layout: Layout, name: str) -> dict:
    (config,) = [volume["configMap"]["name"] for volume in layout.pod(name)["volumes"] if volume["name"] == "configuration"]
    return tomllib.loads(layout.get("ConfigMap", config)["data"]["orrery.toml"])


def routes(layout: Layout, name: str) -> dict[str, list[str]]:
    """Where configured routes lead, by path."""
    listed = tomllib.loads(f"x = {settings(layout, name)['ORRERY_GATEWAY__ROUTES']}".replace("\n", " "))["x"]
    return {each["path"]: each["upstreams"] for each in listed}


def gateways(layout: Layout) -> list[str]:
    return [item["metadata"]["name"] for item in layout.of_kind("Deployment") if "gateway" in layout.main(item["metadata"]["name"]).get("args", [])]


# Layer8: forward proxy and auth server -> reverse proxy 6193 of a provider -> its frontend 5173 and backend 3000.
def test_layer8_routes_lead_as_the_document_draws() -> None:
    layer8 = layout_of("layer8")
    assert routes(layer8, "forward-proxy") == {"/": ["http://reverse-proxy-sp1:6193"]}
    assert routes(layer8, "reverse-proxy-sp1") == {"/api": ["http://spa-backend-sp1:3000"], "/": ["http://spa-frontend-sp1:5173"]}


# libra: the edge leads to App1 and straight to the API; apps call the API by its proxy.
@pytest.mark.parametrize("name", ["libra-production", "libra-development"])
def test_libra_routes_lead_as_the_document_draws(name: str) -> None:
    layout = layout_of(name)
    assert routes(layout, "gateway-edge") == {"/": ["http://app1:3000"]}
    listed = tomllib.loads(f"x = {settings(layout, 'gateway-edge')['ORRERY_GATEWAY__ROUTES']}")["x"]
    assert [each["roles"] for each in listed] == [["edge"]]  # so the API proxy does not have it
    for each in ("gateway-edge", "gateway-api"):
        assert file_of(layout, each)["gateway"]["autha"] == ["http://autha:8081"] and "ORRERY_GATEWAY__AUTHA" not in settings(layout, each)


# Gravitalia: the reverse proxy spreads load, limits rates, caches some routes.
def test_whoever_meets_clients_limits_them_and_the_edge_caches(layout: Layout) -> None:
    for name in gateways(layout):
        held, gateway = settings(layout, name), file_of(layout, name).get("gateway", {})
        if not name.startswith("reverse-proxy"):
            assert held.get("ORRERY_GATEWAY__RATES__ENABLED", "true") == "true" and "rates" not in gateway, name
        if name in ("gateway-edge", "gateway-api"):
            assert held.get("ORRERY_GATEWAY__CACHE__BYTES") is None and "bytes" not in gateway["cache"], name


# Gravitalia: measured is what is limited by design; a line of the log names no person, and is one that a collector reads.
def test_logs_are_for_collectors_and_tell_no_more_than_by_default(layout: Layout) -> None:
    for item in layout.workloads():
        for container in ours(item["spec"]["template"]["spec"]):
            if container["args"][0] != "serve":
                continue
            name = item["metadata"]["name"]
            log = file_of(layout, name)["log"]
            assert log == {"format": "json"}, name
            assert not [key for key in settings(layout, name) if key.startswith("ORRERY_LOG__")], name


# Gravitalia: traces, metrics and logs of every service over OTLP to a collector.
def test_every_service_sends_to_the_collector(scratch) -> None:
    layout = test_parts.layout_with(scratch, test_parts.SERVICES, ["postgres", "rabbitmq", "redis", "discovery", "partners", "console", "monitoring", "telemetry", "pod"])
    table = reachability.table(layout.objects)
    for name in ("gateway-edge", "autha", "spinoza", "maily", "discovery", "partners", "console"):
        assert (name, "collector", "4317") in table, name
        held = settings(layout, name)
        assert held["ORRERY_TELEMETRY__ENABLED"] == "true" and held["ORRERY_TELEMETRY__ENDPOINT"] == "http://collector:4317", name


# Layer8: Telegraf sidecars, and a stand-alone one for whatever has none, to InfluxDB with token, organisation and bucket from a secret.
def test_every_process_of_layer8_has_a_telegraf_that_takes_its_metrics() -> None:
    layer8 = layout_of("layer8")
    table = reachability.table(layer8.objects)
    for item in layer8.of_kind("Deployment"):
        name, pod = item["metadata"]["name"], item["spec"]["template"]["spec"]
        if not ours(pod) or "serve" not in layer8.main(name)["args"]:
            continue
        beside = [each for each in pod["initContainers"] if each["name"] == "telegraf"] if "initContainers" in pod else []
        if beside:
            # It reads the internal listener of its neighbour: sent as well, they would count twice.
            assert "/etc/telegraf/orrery.conf" in beside[0]["args"] and "ORRERY_TELEMETRY__ENABLED" not in settings(layer8, name), name
        else:
            held = settings(layer8, name)
            assert held["ORRERY_TELEMETRY__ENABLED"] == "true" and held["ORRERY_TELEMETRY__ENDPOINT"] == "http://telegraf:4317", name
            assert (name, "telegraf", "4317") in table, name
    (config,) = [item["data"] for item in layer8.of_kind("ConfigMap") if item["metadata"]["name"].startswith("telegraf-config")]
    assert "http://127.0.0.1:8090/metrics" in config["orrery.conf"]


def test_the_stand_alone_telegraf_has_its_credential_from_the_secret() -> None:
    env = layout_of("layer8").main("telegraf")["env"]
    keys = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in env if "secretKeyRef" in each.get("valueFrom", {})}
    assert keys == {f"INFLUX_{each.upper()}": {"name": "layer8-secrets", "key": f"influxdb-{each}"} for each in ("token", "org", "bucket")}


# Javelin: everything that leaves or enters is encrypted.
@pytest.mark.parametrize("name", ["staging", "production"])
def test_what_leaves_staging_and_production_is_encrypted(name: str) -> None:
    layout = layout_of(name)
    held = settings(layout, "autha")
    for key in ("ORRERY_AUTHA__PUBLIC_URL", "ORRERY_STORAGE__ENDPOINT", "ORRERY_DISCOVERY__ISSUER"):
        assert urlsplit(held[key]).scheme == "https", key
    # Plain text is not an option of the mail server's: STARTTLS is asked for unless this is set.
    assert held["ORRERY_MAILY__TRANSPORT"] == "smtp" and "ORRERY_MAILY__SMTP__TLS" not in held
    # 3000, 25 and 80 are never let out; 6443 is the cluster's API.
    outside = {port for source, target, port in reachability.table(layout.objects) if target == "world"}
    assert outside <= {"443", "465", "587", "6443"}


# Layer8: the init container migrates, seeds and checks the configuration; it has to succeed first.
@pytest.mark.parametrize("name, overlay", [("autha", "production"), ("auth-server", "layer8")])
def test_the_init_container_fails_on_a_configuration_that_is_wrong(name: str, overlay: str, tmp_path) -> None:
    layout = layout_of(overlay)
    item = layout.get("Deployment", name)
    (init,) = [each for each in ours(item["spec"]["template"]["spec"]) if each["args"] == ["migrate"]]
    environment = test_binary.write(tmp_path, layout, item, init) | {"ORRERY_AUTHA__HASH_WORKERS": "none"}
    done = test_binary.run(environment, "migrate")
    assert done.returncode != 0 and "hash_workers" in done.stderr + done.stdout
