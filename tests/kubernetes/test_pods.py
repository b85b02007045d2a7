"""What holds for every pod of every overlay: rights, probes, ends, spreading, secrets."""

import re

from conftest import KUBERNETES, Layout, containers, ours
import make_secrets
import render


def each_pod(layout: Layout):
    for item in layout.workloads() + layout.of_kind("Job"):
        yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def test_the_namespace_enforces_restricted(layout: Layout) -> None:
    (namespace,) = layout.of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_is_restricted(layout: Layout) -> None:
    for name, pod in each_pod(layout):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] >= 10000, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
        assert all(set(volume) & {"configMap", "secret", "emptyDir", "persistentVolumeClaim"} for volume in pod.get("volumes", [])), name
        for container in containers(pod):
            held = container["securityContext"]
            assert held["readOnlyRootFilesystem"] is True, (name, container["name"])
            assert held["allowPrivilegeEscalation"] is False and held["privileged"] is False, (name, container["name"])
            assert held["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])
            assert not any("hostPort" in port for port in container.get("ports", [])), (name, container["name"])


def test_no_service_links_and_no_token(layout: Layout) -> None:
    """A Service named orrery would give every pod ORRERY_PORT and the like, which are no settings."""
    for name, pod in each_pod(layout):
        assert pod["enableServiceLinks"] is False, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["serviceAccountName"] not in ("default", None), name


def test_every_workload_has_an_account_of_its_own(layout: Layout) -> None:
    accounts = [pod["serviceAccountName"] for _, pod in each_pod(layout)]
    assert len(accounts) == len(set(accounts))


def test_rights_at_the_api_are_prometheus_alone(layout: Layout) -> None:
    assert layout.of_kind("ClusterRole", "ClusterRoleBinding") == []
    for role in layout.of_kind("Role"):
        assert role["metadata"]["name"] == "prometheus"
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"} and "secrets" not in rule["resources"] and "*" not in rule["resources"]


def test_every_container_has_probes_and_bounds(layout: Layout) -> None:
    for name, pod in each_pod(layout):
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} == set(resources["requests"]) == set(resources["limits"]), (name, container["name"])
            assert container["imagePullPolicy"] == "IfNotPresent"
        # A job is done or is not.
        for container in pod["containers"] if "restartPolicy" not in pod else []:
            assert "livenessProbe" in container and "readinessProbe" in container, (name, container["name"])
            if container["name"] != "telegraf":
                assert "startupProbe" in container, (name, container["name"])


def test_images_are_of_one_version(layout: Layout) -> None:
    for _, pod in each_pod(layout):
        for container in containers(pod):
            tag = container["image"].rpartition(":")[2] if ":" in container["image"] else ""
            assert tag and tag != "latest", container["image"]
            if layout.name in ("staging", "production", "libra-production") and "app" not in container["image"]:
                assert tag != "dev", container["image"]


def test_our_probes_ask_this_process_alone(layout: Layout) -> None:
    """Readiness says what this process can do; a restart does not heal a neighbour, so liveness never asks for one."""
    for name, pod in each_pod(layout):
        for container in ours(pod):
            if container["args"][0] != "serve":
                continue
            paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")}
            assert paths == {"/health/live"}, name
            declared = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in declared
            assert {"name": "internal", "containerPort": 8090} in container["ports"]


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|min)", text).groups()
    return int(number) * (60 if unit == "min" else 1)


def grace(layout: Layout, pod: dict) -> int:
    names = [volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "configuration"]
    text = layout.get("ConfigMap", names[0])["data"]["orrery.toml"]
    return seconds(re.search(r'^grace = "(.*)"$', text, re.MULTILINE)[1])


def test_a_pod_ends_after_what_it_took_in(layout: Layout) -> None:
    """The pause, in which balancers forget the pod, and internal.grace fit into the pod's own grace, with ten seconds to spare."""
    for name, pod in each_pod(layout):
        for container in ours(pod):
            if container["args"][0] == "serve":
                pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                assert pause >= 5, name
                assert pod["terminationGracePeriodSeconds"] >= pause + grace(layout, pod) + 10, name


def test_an_update_takes_no_pod_away_before_another_is_ready(layout: Layout) -> None:
    for item in layout.of_kind("Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if labels.get("app.kubernetes.io/part-of") in ("orrery", "provider", "apps"):
            assert item["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, item["metadata"]["name"]


def test_what_has_replicas_is_spread_and_has_a_budget(layout: Layout) -> None:
    budgets = [item["spec"]["selector"]["matchLabels"] for item in layout.of_kind("PodDisruptionBudget")]
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in layout.of_kind("HorizontalPodAutoscaler")}
    for item in layout.workloads():
        name = item["metadata"]["name"]
        if item["spec"].get("replicas", 1) > 1 or name in scaled:
            labels = item["spec"]["template"]["metadata"]["labels"]
            assert any(each.items() <= labels.items() for each in budgets), name
            assert item["spec"]["template"]["spec"]["topologySpreadConstraints"], name
        # Where an autoscaler decides, the manifest does not: applying it again would undo what was scaled.
        assert name not in scaled or "replicas" not in item["spec"], name


def test_migrations_succeed_before_autha_starts(layout: Layout) -> None:
    found = [item for item in layout.of_kind("Deployment") if item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "autha"]
    assert len(found) == 1
    inits = [each for each in found[0]["spec"]["template"]["spec"]["initContainers"] if each.get("restartPolicy") != "Always"]
    assert [each["args"] for each in inits] == [["migrate"]]
    assert {"configMapRef", "secretKeyRef"} >= {"configMapRef"} and any(each["name"] == "ORRERY_BROKER__MANAGEMENT_URL_FILE" for each in inits[0]["env"])


def test_claims_outlive_their_workloads(layout: Layout) -> None:
    for item in layout.of_kind("StatefulSet"):
        if item["spec"].get("volumeClaimTemplates"):
            assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_secrets_are_referred_to_and_never_written(layout: Layout) -> None:
    assert layout.of_kind("Secret") == []
    for item in layout.of_kind("ConfigMap"):
        for text in item["data"].values():
            assert not re.search(r"(?i)(password|secret_key|master|token)\s*=\s*[\"'][^\"'$]+[\"']", text), item["metadata"]["name"]
            assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text), item["metadata"]["name"]


def test_no_file_of_the_layout_holds_a_secret() -> None:
    for file in KUBERNETES.rglob("*"):
        if file.is_file() and file.suffix in (".yaml", ".toml", ".conf"):
            text = file.read_text()
            assert not re.search(r"^kind: Secret$", text, re.MULTILINE) or "local-config" in text, file
            assert not re.search(r"://[^/\s:@{]+:[^/\s@{]+@", text), file


def test_every_secret_that_is_referred_to_can_be_made(layout: Layout) -> None:
    made = {item["metadata"]["name"]: item["stringData"] for item in make_secrets.make(layout.objects)}
    for name, keys in make_secrets.references(layout.objects).items():
        assert name in made
        assert keys is None or (keys and keys <= set(made[name])), name


def test_secrets_fit_together_and_are_new_each_time(layout: Layout) -> None:
    def values() -> dict[str, dict[str, str]]:
        return {item["metadata"]["name"]: item["stringData"] for item in make_secrets.make(layout.objects)}

    first, second = values(), values()
    mails = {data["mail-key"] for data in first.values() if "mail-key" in data}
    assert len(mails) == 1 and mails != {data["mail-key"] for data in second.values() if "mail-key" in data}
    database = next(data for name, data in first.items() if name.startswith("postgres") and "POSTGRES_PASSWORD" in data)
    urls = {data["database-url"] for data in first.values() if "database-url" in data}
    assert urls == {f"postgres://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}@postgres:5432/{database['POSTGRES_DB']}"}
    assert all("HOST" not in value for data in first.values() for value in data.values())


def test_each_service_has_secrets_of_its_own(layout: Layout) -> None:
    """Nobody mounts what another one needs: the master key is autha's, the management URL that of migrations."""
    holders: dict[str, set[str]] = {}
    for item in layout.workloads():
        for name, keys in make_secrets.references([item]).items():
            for key in keys or ():
                holders.setdefault(key, set()).add(item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"])
    assert holders["master-key"] == {"autha"}
    assert holders["mail-key"] == {"autha", "maily"}
    assert holders["management-url"] <= {"autha", "console"}
    assert holders["storage-secret-key"] <= {"autha", "spinoza", "s3"}
    assert holders.get("url", set()) <= {"gateway", "autha"} and holders.get("users.acl", set()) <= {"redis"}
    of_gateway = {key for key, names in holders.items() if "gateway" in names}
    assert of_gateway <= {"url", "influxdb-token", "influxdb-org", "influxdb-bucket"}


def test_rendering_names_every_pod_in_a_policy(layout: Layout) -> None:
    assert render.faults(layout.objects) == []
