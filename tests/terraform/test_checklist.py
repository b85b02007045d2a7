"""Javelin's lines, and the issue's, on each environment as it evaluates: networks, firewalls, encryption, TLS, rights, alarms."""

import functools
import ipaddress
import json
import re
import zipfile

import pytest
from conftest import ENVIRONMENTS, FILES, TERRAFORM, blocks, by_plan, parsed, plan, workspace

REGIONS = {"development": 1, "staging": 1, "production": 1, "regions": 2}
each_environment = pytest.mark.parametrize("environment", ENVIRONMENTS)


def in_module(values: dict[str, dict], module: str) -> dict[str, dict]:
    return {address: each for address, each in values.items() if f"module.{module}." in address}


def parsed_resources(type_: str) -> list[dict]:
    """The bodies of all resources of a type, as they are written."""
    return [body for file in FILES for entry in parsed(file).get("resource", []) for kind, named in entry.items() if kind.strip('"') == type_ for body in named.values()]


# ---- networks


@each_environment
def test_subnets_are_public_private_and_database_in_three_zones(evaluate, environment: str) -> None:
    subnets = evaluate(environment).of("aws_subnet")
    for kind in ("public", "private", "database"):
        zones = [each["availability_zone"] for address, each in subnets.items() if f"aws_subnet.{kind}[" in address]
        assert len(zones) == 3 * REGIONS[environment] and len(set(zones)) == len(zones)
    assert not any(each["map_public_ip_on_launch"] for each in subnets.values())
    networks = [ipaddress.ip_network(each["cidr_block"]) for each in subnets.values()]
    for index, one in enumerate(networks):
        assert not any(one.overlaps(other) for other in networks[index + 1 :])


@each_environment
def test_a_gateway_to_the_internet_is_routed_from_public_subnets_alone(evaluate, environment: str) -> None:
    routes = evaluate(environment).of("aws_route")
    assert {address.split("aws_route.")[1].split("[")[0] for address in routes} == {"public", "private"}
    for address, each in routes.items():
        assert each["destination_cidr_block"] == "0.0.0.0/0"
    network = parsed(TERRAFORM / "modules" / "network" / "main.tf")
    by_name = {name.strip('"'): body for entry in network["resource"] for type_, named in entry.items() if type_.strip('"') == "aws_route" for name, body in named.items()}
    assert "gateway_id" in by_name["public"] and "nat_gateway_id" not in by_name["public"]
    assert "nat_gateway_id" in by_name["private"] and "gateway_id" not in by_name["private"]


@each_environment
def test_nat_is_per_zone_in_production(evaluate, environment: str) -> None:
    count = len(evaluate(environment).of("aws_nat_gateway"))
    assert count == (3 * REGIONS[environment] if environment in ("production", "regions") else 1)
    assert len(evaluate(environment).of("aws_eip")) == count


def test_only_load_balancers_and_nat_stand_in_public_subnets() -> None:
    """What refers to public subnets, in all files."""
    users = set()
    for file in FILES:
        for line in file.read_text().splitlines():
            if "public_subnet_ids" in line and "output" not in line:
                users.add((file.parent.name, line.split("=")[0].strip()))
    assert users == {("stack", "subnet_ids")}
    stack = (TERRAFORM / "modules" / "stack" / "main.tf").read_text()
    assert stack.count("public_subnet_ids") == 1 and 'source                    = "../edge"' in stack.split("public_subnet_ids")[0].split("module ")[-1]


@each_environment
def test_services_of_aws_are_reached_inside_of_the_network(evaluate, environment: str) -> None:
    names = [each["service_name"] for each in evaluate(environment).of("aws_vpc_endpoint").values()]
    assert any(name.endswith(".s3") for name in names)
    if environment == "development":
        assert len(names) == 1
        return
    if evaluate(environment).planned:
        assert {name.split(".", 3)[3] for name in names} == {"s3", "ecr.api", "ecr.dkr", "sts", "logs", "secretsmanager", "sqs", "eks-auth"}
    assert len(evaluate(environment).of("aws_vpc_endpoint")) == 8 * REGIONS[environment]


# ---- firewalls


@each_environment
def test_ports_that_are_open_and_to_whom(evaluate, environment: str) -> None:
    """By module: the port, and whether addresses or a group of the network may come in."""
    rules = evaluate(environment).of("aws_vpc_security_group_ingress_rule")
    found: dict[str, set[tuple[int, str]]] = {}
    for address, each in rules.items():
        assert each["from_port"] == each["to_port"] and each["ip_protocol"] == "tcp", address
        module = address.split(".aws_vpc")[0].split("module.")[-1]
        source = each.get("cidr_ipv4")
        found.setdefault(module, set()).add((each["from_port"], source if isinstance(source, str) else "group"))
    clients = "198.51.100.0/24" if environment in ("development", "staging") else "0.0.0.0/0"
    assert found["database"] == {(5432, "group")}
    assert found["cache"] == {(6379, "group")}
    assert found["broker"] == {(5671, "group"), (443, "group")}
    assert found["edge"] == {(443, clients), (80, clients), (8080, "group")}
    assert {port for port, _ in found["network"]} == {443}
    assert all(ipaddress.ip_network(source).is_private for _, source in found["network"])
    assert set(found) == {"database", "cache", "broker", "edge", "network"}


def test_databases_let_the_cluster_in_and_nobody_else() -> None:
    for module in ("database", "cache", "broker"):
        text = (TERRAFORM / "modules" / module / "main.tf").read_text()
        assert "referenced_security_group_id = var.client_security_group_id" in text.replace("  ", " ").replace("  ", " ") or "var.client_security_group_id" in text
        assert "cidr_ipv4" not in text and "cidr_ipv6" not in text
    stack = (TERRAFORM / "modules" / "stack" / "main.tf").read_text()
    assert len(re.findall(r"client_security_group_id += module.cluster.security_group_id", stack)) == 3


@each_environment
def test_groups_carry_no_rules_of_their_own_and_the_default_one_lets_nothing_through(evaluate, environment: str) -> None:
    for each in evaluate(environment).of("aws_security_group").values():
        assert not each.get("ingress") and not each.get("egress")
    defaults = evaluate(environment).of("aws_default_security_group")
    assert len(defaults) == REGIONS[environment]
    assert not any(each.get("ingress") or each.get("egress") for each in defaults.values())


@each_environment
def test_the_load_balancer_goes_to_the_gateway_alone(evaluate, environment: str) -> None:
    out = evaluate(environment).of("aws_vpc_security_group_egress_rule")
    assert {(each["from_port"], each["to_port"]) for each in out.values()} == {(8080, 8080)}
    assert not any(isinstance(each.get("cidr_ipv4"), str) for each in out.values())


# ---- TLS


@each_environment
def test_the_edge_speaks_tls_12_and_later_and_redirects_the_rest(evaluate, environment: str) -> None:
    listeners = evaluate(environment).of("aws_lb_listener")
    assert {each["port"] for each in listeners.values()} == {80, 443}
    for each in listeners.values():
        (action,) = blocks(each["default_action"])
        if each["port"] == 443:
            assert each["protocol"] == "HTTPS" and each["ssl_policy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
            assert action["type"] == "forward"
        else:
            (redirect,) = blocks(action["redirect"])
            assert action["type"] == "redirect" and (redirect["protocol"], redirect["port"], redirect["status_code"]) == ("HTTPS", "443", "HTTP_301")


@each_environment
def test_databases_refuse_what_is_not_tls(evaluate, environment: str) -> None:
    for each in evaluate(environment).of("aws_rds_cluster_parameter_group").values():
        values = {parameter["name"]: str(parameter["value"]) for parameter in blocks(each["parameter"])}
        assert values["rds.force_ssl"] == "1" and values["ssl_min_protocol_version"] == "TLSv1.2"
        # Nothing of what people typed is in the log.
        assert values["log_parameter_max_length"] == "0" and values["log_statement"] == "ddl" and values["log_min_duration_statement"] == "-1"
    for each in evaluate(environment).of("aws_elasticache_replication_group").values():
        assert each["transit_encryption_enabled"] and each["transit_encryption_mode"] == "required"


def test_addresses_in_secrets_are_of_tls() -> None:
    text = (TERRAFORM / "modules" / "secrets" / "main.tf").read_text()
    assert "amqps://" in text and "rediss://" in text and '"https://admin:' in text and "sslmode=" in text
    assert "amqp://" not in text and "redis://:" not in text.replace("rediss://:", "") and "http://" not in text


@each_environment
def test_the_bucket_is_private_encrypted_versioned_and_of_tls(evaluate, environment: str) -> None:
    found = evaluate(environment)
    assert len(found.of("aws_s3_bucket")) == REGIONS[environment]
    for each in found.of("aws_s3_bucket_public_access_block").values():
        assert each["block_public_acls"] and each["block_public_policy"] and each["ignore_public_acls"] and each["restrict_public_buckets"]
    for each in found.of("aws_s3_bucket_versioning").values():
        assert blocks(each["versioning_configuration"])[0]["status"] == "Enabled"
    for each in found.of("aws_s3_bucket_server_side_encryption_configuration").values():
        (rule,) = blocks(each["rule"])
        assert blocks(rule["apply_server_side_encryption_by_default"])[0]["sse_algorithm"] == "aws:kms"
    for each in in_module(found.of("data.aws_iam_policy_document"), "bucket").values():
        refused = {(condition["variable"], tuple(condition["values"])) for statement in blocks(each["statement"]) for condition in blocks(statement["condition"]) if statement["effect"] == "Deny"}
        assert ("aws:SecureTransport", ("false",)) in refused and ("s3:TlsVersion", ("1.2",)) in refused


# ---- what keeps data


@each_environment
def test_data_is_encrypted_and_over_zones(evaluate, environment: str) -> None:
    found = evaluate(environment)
    large = environment in ("production", "regions")
    for each in found.of("aws_rds_cluster").values():
        assert each["storage_encrypted"] is True and each["backup_retention_period"] >= 14 and each["copy_tags_to_snapshot"]
        assert each["deletion_protection"] is (environment != "development")
    instances = found.of("aws_rds_cluster_instance")
    assert len(instances) == {"development": 1, "staging": 2, "production": 2, "regions": 4}[environment]
    assert not any(each["publicly_accessible"] for each in instances.values())
    if environment != "development":
        assert len({each["availability_zone"] for each in instances.values()}) == len(instances)
    for each in found.of("aws_elasticache_replication_group").values():
        assert each["at_rest_encryption_enabled"] in (True, "true")
        assert each["multi_az_enabled"] is large and each["automatic_failover_enabled"] is large
    for each in found.of("aws_mq_broker").values():
        assert each["publicly_accessible"] is False and each["engine_type"] == "RabbitMQ"
        assert each["deployment_mode"] == ("CLUSTER_MULTI_AZ" if large else "SINGLE_INSTANCE")
        assert blocks(each["encryption_options"])[0]["use_aws_owned_key"] is False
    for each in found.of("aws_kms_key").values():
        assert each["enable_key_rotation"] is True
    for each in found.of("aws_launch_template").values():
        assert blocks(blocks(each["block_device_mappings"])[0]["ebs"])[0]["encrypted"] in (True, "true")
        assert blocks(each["metadata_options"])[0]["http_tokens"] == "required"


@each_environment
def test_the_cluster_is_managed_and_its_api_is_not_for_everybody(evaluate, environment: str) -> None:
    for each in evaluate(environment).of("aws_eks_cluster").values():
        (network,) = blocks(each["vpc_config"])
        assert network["endpoint_private_access"] is True
        office = environment in ("development", "staging")
        assert network["endpoint_public_access"] is office
        assert not office or list(network["public_access_cidrs"]) == ["198.51.100.0/24"]
        assert set(each["enabled_cluster_log_types"]) == {"api", "audit", "authenticator", "controllerManager", "scheduler"}
        assert blocks(each["encryption_config"])[0]["resources"] == ["secrets"]
        assert float(each["version"]) >= 1.33
    addons = evaluate(environment).of("aws_eks_addon")
    assert {each["addon_name"] for each in addons.values()} >= {"vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent", "amazon-cloudwatch-observability"}
    (plugin, *_) = [each for each in addons.values() if each["addon_name"] == "vpc-cni"]
    assert json.loads(plugin["configuration_values"]) == {"enableNetworkPolicy": "true"}


# ---- rights

# Statements on every resource: actions that know none, and the key's own policy, which is about that key.
UNBOUND = {"elasticloadbalancing:Describe", "ec2:Describe"}


@each_environment
def test_policies_have_no_wildcards(evaluate, environment: str) -> None:
    seen = 0
    for address, each in evaluate(environment).of("data.aws_iam_policy_document").items():
        for statement in blocks(each.get("statement")):
            seen += 1
            actions, resources = statement.get("actions") or [], statement.get("resources") or []
            if statement.get("effect") == "Deny":
                continue
            of_key = "data.aws_iam_policy_document.key" in address
            for action in actions:
                assert "*" not in action or (of_key and action == "kms:*" and statement.get("sid") == "Account"), (address, action)
            if "*" in resources and not of_key:
                assert all(any(action.startswith(prefix) for prefix in UNBOUND) for action in actions), address
            for principal in blocks(statement.get("principals")):
                assert "*" not in (principal["identifiers"] or []), address
    assert seen > 20, "documents are missing: those that are known before the apply, or those that are not"


@each_environment
def test_one_role_is_bound_to_one_service_account(evaluate, environment: str) -> None:
    bound = [(each["namespace"], each["service_account"]) for each in evaluate(environment).of("aws_eks_pod_identity_association").values()]
    namespace = "orrery-production" if environment == "regions" else f"orrery-{environment}"
    wanted = {(namespace, "autha"), (namespace, "spinoza"), ("external-secrets", "external-secrets"), ("kube-system", "aws-load-balancer-controller")}
    assert set(bound) == wanted and len(bound) == len(wanted) * REGIONS[environment]
    trust = in_module(evaluate(environment).of("data.aws_iam_policy_document"), "identity")
    trusted = {address: each for address, each in trust.items() if ".trust[" in address}
    assert len(trusted) == len(bound)
    for address, each in trusted.items():
        (statement,) = blocks(each["statement"])
        conditions = {condition["variable"]: condition["values"] for condition in blocks(statement["condition"])}
        assert set(conditions) == {"aws:SourceArn", "aws:RequestTag/kubernetes-namespace", "aws:RequestTag/kubernetes-service-account"}
        assert (conditions["aws:RequestTag/kubernetes-namespace"][0], conditions["aws:RequestTag/kubernetes-service-account"][0]) in wanted


RIGHTS = {
    "autha": {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket", "kms:GenerateDataKey", "kms:Decrypt"},
    "spinoza": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket", "kms:GenerateDataKey", "kms:Decrypt"},
    "secrets": {"secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret", "kms:Decrypt"},
}


@each_environment
def test_rights_are_these(evaluate, environment: str) -> None:
    documents = in_module(evaluate(environment).of("data.aws_iam_policy_document"), "identity")
    for name, rights in RIGHTS.items():
        found = [each for address, each in documents.items() if address.endswith(f"aws_iam_policy_document.{name}")]
        assert len(found) == REGIONS[environment]
        for each in found:
            assert {action for statement in blocks(each["statement"]) for action in statement["actions"]} == rights


# ---- what is watched


@each_environment
def test_alarms_reach_somebody_and_say_what_to_do(evaluate, environment: str) -> None:
    found = evaluate(environment)
    alarms = found.of("aws_cloudwatch_metric_alarm")
    assert {each["namespace"] for each in alarms.values()} == {"AWS/RDS", "AWS/AmazonMQ", "AWS/ElastiCache", "AWS/ApplicationELB"}
    assert len(alarms) == {"regions": 2 * 12 + 1}.get(environment, 12)
    assert all(len(each["alarm_description"]) > 20 for each in alarms.values())
    topics = found.of("aws_sns_topic_subscription")
    assert {each["endpoint"] for each in topics.values()} == {"operators@orrery.example"}
    assert len(found.of("aws_budgets_budget")) == 1


def test_the_second_region_says_what_a_failover_would_lose() -> None:
    (alarm,) = [(address, each) for address, each in by_plan("regions").of("aws_cloudwatch_metric_alarm").items() if each["metric_name"].startswith("AuroraGlobalDB")]
    assert "module.second." in alarm[0]
    assert (alarm[1]["metric_name"], alarm[1]["dimensions"], alarm[1]["threshold"]) == ("AuroraGlobalDBRPOLag", {"DBClusterIdentifier": "orrery-2"}, 5000)


@each_environment
def test_logs_are_encrypted_and_end(evaluate, environment: str) -> None:
    found = evaluate(environment)
    groups = found.of("aws_cloudwatch_log_group")
    assert all(0 < each["retention_in_days"] <= 365 for each in groups.values())
    names = {each["name"].rsplit("/", 1)[1] for each in groups.values() if each["name"].startswith("/aws/containerinsights/")}
    assert names == {"application", "dataplane", "host", "performance"}
    sources = parsed_resources("aws_cloudwatch_log_group")
    assert sources and all("kms_key_id" in body for body in sources)


@each_environment
def test_what_containers_write_gets_to_the_providers_logs(evaluate, environment: str) -> None:
    """By an add-on whose role may write to these groups and to nothing else."""
    found = evaluate(environment)
    addons = [each for each in found.of("aws_eks_addon").values() if each["addon_name"] == "amazon-cloudwatch-observability"]
    assert len(addons) == REGIONS[environment]
    for each in addons:
        values = json.loads(each["configuration_values"])
        assert values["containerLogs"] == {"enabled": True}
        # No Application Signals: its agent would get into the services' pods.
        assert values["agent"]["config"]["logs"]["metrics_collected"].keys() == {"kubernetes"}
        assert blocks(each["pod_identity_association"])[0]["service_account"] == "cloudwatch-agent"
    policies = [each for address, each in found.of("data.aws_iam_policy_document").items() if address.endswith("observe.data.aws_iam_policy_document.agent")]
    assert len(policies) == REGIONS[environment]
    for each in policies:
        assert {action for statement in blocks(each["statement"]) for action in statement["actions"]} == {
            "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams", "ec2:DescribeVolumes", "ec2:DescribeTags",
        }


# ---- uploads that the store tells of


@pytest.fixture
def notified(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The variables of production with the function that tells of uploads."""
    return (f"-var=uploads_package={package()}",)


@functools.cache
def package() -> str:
    path = workspace() / "bridge.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(TERRAFORM / "modules" / "bucket" / "bridge" / "handler.py", "handler.py")
    return str(path)


def test_the_bucket_tells_our_queue_of_originals_and_nobody_else_may_write_to_it(notified: tuple[str, ...]) -> None:
    found = by_plan("production", *notified)
    (notification,) = found.of("aws_s3_bucket_notification").values()
    (queue,) = blocks(notification["queue"])
    assert (queue["events"], queue["filter_prefix"]) == (["s3:ObjectCreated:*"], "avatars/")
    assert len(found.of("aws_sqs_queue")) == 2 and len(found.of("aws_sqs_queue_policy")) == 1
    (policy,) = [each for address, each in found.of("data.aws_iam_policy_document").items() if address.endswith("aws_iam_policy_document.uploads[0]")]
    (statement,) = blocks(policy["statement"])
    assert statement["actions"] == ["sqs:SendMessage"]
    assert {condition["variable"] for condition in blocks(statement["condition"])} == {"aws:SourceArn", "aws:SourceAccount"}
    (mapping,) = found.of("aws_lambda_event_source_mapping").values()
    assert mapping["function_response_types"] == ["ReportBatchItemFailures"]
    # Long enough for a call that is tried six times.
    (function,) = found.of("aws_lambda_function").values()
    (uploads,) = [each for each in found.of("aws_sqs_queue").values() if each["name"].endswith("-uploads")]
    assert uploads["visibility_timeout_seconds"] >= 6 * function["timeout"]
    assert not blocks(function.get("dead_letter_config")), "the queue has its own; the function's role may not write to it"


def test_the_function_reaches_rabbitmq_and_its_secret_and_nothing_reaches_it(notified: tuple[str, ...]) -> None:
    found = by_plan("production", *notified)
    subnets = {kind: {each["cidr_block"] for address, each in found.of("aws_subnet").items() if f".{kind}[" in address} for kind in ("private", "database")}
    out = {(each["from_port"], each["cidr_ipv4"]) for address, each in found.of("aws_vpc_security_group_egress_rule").items() if "module.bucket." in address}
    assert out == {(5671, cidr) for cidr in subnets["database"]} | {(443, cidr) for cidr in subnets["private"]}
    assert not [address for address in found.of("aws_vpc_security_group_ingress_rule") if "module.bucket." in address]
    assert {each["from_port"] for address, each in found.of("aws_vpc_security_group_ingress_rule").items() if ".uploads[0]" in address} == {5671}


def test_pods_do_not_get_the_functions_secret_and_know_that_the_store_tells(notified: tuple[str, ...]) -> None:
    secrets = {each["name"] for each in by_plan("production", *notified).of("aws_secretsmanager_secret").values()}
    before = {each["name"] for each in by_plan("production").of("aws_secretsmanager_secret").values()}
    assert secrets - before == {"orrery-prod/uploads"}
    values = plan("production", *notified)["output_changes"]["values"]["after"]
    assert values["settings"]["ORRERY_STORAGE__UPLOADED_EVENTS"] == "notifications"
    assert not [item for item in values["extra"] if item["metadata"]["name"] == "uploads"]
    assert "ORRERY_STORAGE__UPLOADED_EVENTS" not in plan("production")["output_changes"]["values"]["after"]["settings"]


def test_rights_of_the_function_have_no_wildcards(notified: tuple[str, ...]) -> None:
    seen = 0
    for address, each in by_plan("production", *notified).of("data.aws_iam_policy_document").items():
        if "module.bucket." not in address:
            continue
        for statement in blocks(each["statement"]):
            if statement.get("effect") != "Deny":
                seen += 1
                assert not any("*" in action for action in statement["actions"]) and "*" not in (statement.get("resources") or [])
    assert seen == 6


@each_environment
def test_a_firewall_of_requests_stands_in_front(evaluate, environment: str) -> None:
    found = evaluate(environment)
    assert len(found.of("aws_wafv2_web_acl_association")) == REGIONS[environment]
    for each in found.of("aws_wafv2_web_acl").values():
        names = {rule["name"] for rule in blocks(each["rule"])}
        wanted = {"rate", "AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesCommonRuleSet"}
        # tfparse loses some of the blocks that a `dynamic` makes.
        assert names == wanted if found.planned else names <= wanted
        assert not any(blocks(rule["visibility_config"])[0]["sampled_requests_enabled"] for rule in blocks(each["rule"]))
    for each in found.of("aws_lb").values():
        # No lines about requests: they would hold people's addresses.
        assert not blocks(each.get("access_logs")) and each["drop_invalid_header_fields"] is True and each["internal"] is False


# ---- two regions


def test_a_name_that_is_checked_leads_to_the_first_region_while_it_is_well(evaluate) -> None:
    found = evaluate("regions")
    checks = found.of("aws_route53_health_check")
    assert {each["fqdn"] for each in checks.values()} == {"first.orrery.example", "second.orrery.example"}
    for each in checks.values():
        assert (each["type"], each["resource_path"], each["request_interval"], each["failure_threshold"]) == ("HTTPS", "/health/ready", 10, 3)
    records = {address: each for address, each in found.of("aws_route53_record").items() if ".host[" in address}
    assert {(each["set_identifier"], blocks(each["failover_routing_policy"])[0]["type"]) for each in records.values()} == {("first", "PRIMARY"), ("second", "SECONDARY")}
    # No stack of its own leads the name to itself beside.
    assert not [address for address in found.of("aws_route53_record") if ".edge.aws_route53_record.this[" in address]


def test_the_second_regions_database_follows_and_has_no_first_user_of_its_own(evaluate) -> None:
    found = evaluate("regions")
    assert len(found.of("aws_rds_global_cluster")) == 1
    (first,) = in_module(found.of("aws_rds_cluster"), "first").values()
    (second,) = in_module(found.of("aws_rds_cluster"), "second").values()
    assert first["master_username"] == "orrery" and first["database_name"] == "orrery"
    assert not second.get("master_username") and not second.get("database_name") and not second.get("master_password")


def test_pictures_go_both_ways(evaluate) -> None:
    found = evaluate("regions").of("aws_s3_bucket_replication_configuration")
    assert len(found) == 2
    for each in found.values():
        (rule,) = blocks(each["rule"])
        assert rule["status"] == "Enabled" and blocks(rule["delete_marker_replication"])[0]["status"] == "Enabled"


def test_pictures_are_replicated_only_when_both_buckets_keep_versions() -> None:
    """S3 refuses it otherwise; both configurations name both buckets by what waits for their versions."""
    calls = plan("regions")["configuration"]["root_module"]["module_calls"]["global"]["module"]
    bucket = calls["module_calls"]["first"]["module"]["module_calls"]["bucket"]["module"]
    assert bucket["outputs"]["arn"]["depends_on"] == ["aws_s3_bucket_versioning.this"]
    for resource in calls["resources"]:
        if resource["type"] == "aws_s3_bucket_replication_configuration":
            other = "second" if resource["name"] == "first" else "first"
            assert resource["depends_on"] == [f"module.{resource['name']}"]
            assert f"module.{other}.bucket" in resource["expressions"]["rule"][0]["destination"][0]["bucket"]["references"]


def test_networks_of_the_regions_do_not_overlap(evaluate) -> None:
    networks = [ipaddress.ip_network(each["cidr_block"]) for each in evaluate("regions").of("aws_vpc").values()]
    assert len(networks) == 2 and not networks[0].overlaps(networks[1])


def test_both_regions_have_the_same_keys() -> None:
    """What one region sealed, the other opens: the stacks make none of their own."""
    text = (TERRAFORM / "modules" / "global" / "main.tf").read_text()
    assert text.count("= local.shared\n") == 2
    made = [change for change in plan("regions")["resource_changes"] if change["type"] == "random_bytes"]
    # Log-ins of operators are each region's own.
    shared = sorted(change["address"] for change in made if not change["address"].endswith(".console"))
    assert shared == ["module.global.random_bytes.discovery", "module.global.random_bytes.mail", "module.global.random_bytes.master"]
