"""Who reaches whom, and who may do what: networks, the database's roles, the broker's users, what a container is allowed."""

import base64
import json
import urllib.error
import urllib.request

from outside import HERE, PORTS
from stack import run


def only_the_gateway(outside, stack, wanted=frozenset({8080})):
    """From another machine: of this one's ports the gateway's, of the containers' addresses the gateway's own port, by whatever way."""
    published = outside.published()
    assert published == set(wanted), f"from outside these ports answer: {sorted(published)}, wanted {sorted(wanted)}"
    owners = {address: service for service, _, address in stack.addresses()}
    reached = {(owners[address], port) for address, port in outside.answers(list(owners))}
    assert all(service in ("gateway", "ingress", "orrery", "edge") and port in (80, 443, 8080) for service, port in reached), \
        f"containers are reached from outside: {sorted(reached)}"
    assert outside.get("/health/live", 8080) == "200"
    print(f"      from outside, of {len(PORTS)} ports of this machine and of {len(owners)} addresses of containers: only the gateway's answers")


def networks(stack):
    """Each service shares a network with what it needs and nothing else; internal ones have no way out."""
    sharing = {}
    for service, network, _ in stack.addresses():
        sharing.setdefault(network.removeprefix(stack.name + "_"), set()).add(service)
    wanted = {
        "data": {"autha", "spinoza", "maily", "postgres"},
        "broker": {"autha", "spinoza", "maily", "rabbitmq"},
        "objects": {"autha", "spinoza", "s3-folder"},
        "front": {"gateway", "autha"},
        "mail": {"maily", "mail"},
        "edge": {"gateway"},
        "egress": {"maily"},
    }
    for network, services in wanted.items():
        assert sharing.get(network, set()) == services, f"in {network} are {sharing.get(network)}, wanted {services}"
    for network in sharing:
        internal = json.loads(run("docker", "network", "inspect", f"{stack.name}_{network}").stdout)[0]["Internal"]
        assert internal == (network not in ("edge", "egress")), f"{network} is {'' if internal else 'not '}internal"
    # As the database's container: it has no way to the outside world, and the broker is not in its network.
    for host, port in (("rabbitmq", 5672), ("gateway", 8080), (HERE, 8080)):
        tried = stack.compose("exec", "-T", "postgres", "timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}", check=False)
        assert tried.returncode != 0, f"the database's container reaches {host}:{port}"
    print("      networks hold exactly who needs them; the database's container reaches neither broker nor gateway nor outside")


def database(stack):
    """A role for each service, by its own password; none can become another."""
    assert stack.sql("orrery_autha", "select count(*) >= 0 from autha.accounts").stdout.strip() == "t"
    for role in ("orrery_maily", "orrery_spinoza"):
        refused = stack.sql(role, "select email_sealed from autha.accounts", check=False)
        assert "permission denied" in refused.stderr, refused.stderr
        # Unlike the one user of before, it cannot take its role back off.
        refused = stack.sql(role, "reset role; set role orrery_autha", check=False)
        assert "permission denied" in refused.stderr, refused.stderr
    refused = stack.sql("orrery_spinoza", "select count(*) from maily.suppressed", check=False)
    assert "permission denied" in refused.stderr, refused.stderr
    connected = stack.sql("orrery_autha", "select distinct usename from pg_stat_activity where datname = 'orrery' and usename is not null").stdout.split()
    assert {"orrery_autha", "orrery_maily", "orrery_spinoza"} <= set(connected) and "orrery" not in connected, connected
    wrong = stack.compose("exec", "-T", "postgres", "psql", "postgres://orrery_autha:postgres@127.0.0.1/orrery", "-c", "select 1", check=False)
    assert "password authentication failed" in wrong.stderr, wrong.stderr
    print(f"      PostgreSQL: connected are {', '.join(sorted(set(connected)))}; maily and spinoza are refused autha's tables and its role")


def broker(stack):
    """A user for each service; guest is not there; each reads its own queues only."""
    address = next(address for service, network, address in stack.addresses() if service == "rabbitmq" and network.endswith("_broker"))

    def ask(path, user, password, body=None, method=None):
        request = urllib.request.Request(f"http://{address}:15672/api/{path}", json.dumps(body).encode() if body else None, method=method)
        request.add_header("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    admin = ("admin", stack.secret("rabbitmq.admin"))
    assert ask("whoami", "guest", "guest")[0] == 401
    users = sorted(user["name"] for user in ask("users", *admin)[1])
    assert users == ["admin", "autha", "console", "discovery", "maily", "orrery", "partners", "spinoza"], users
    connections = {(one["user"], one["client_properties"].get("connection_name", "")) for one in ask("connections", *admin)[1]}
    owners = {user for user, _ in connections}
    assert owners == {"autha", "maily", "spinoza"}, connections
    rights = {one["user"]: one for one in ask("permissions", *admin)[1]}
    for user in ("autha", "maily", "spinoza"):
        assert rights[user]["configure"] == "^$" and not rights[user]["read"].startswith(".*"), rights[user]
    topics = {one["user"]: one["write"] for one in ask("topic-permissions", *admin)[1]}
    assert topics["maily"] == "^com\\.gravitalia\\.account\\.erased\\.", topics
    may = {}
    for user in ("autha", "maily", "spinoza"):
        said = stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "eval", ASK % user).stdout
        may[user] = {words[0]: words[1] == "true" for words in (line.split() for line in said.splitlines()) if len(words) == 2}
    assert may["maily"] == {"own": True, "other": False, "events": True, "declare": False, "commands": True}, may
    assert may["autha"] == {"own": False, "other": False, "events": True, "declare": False, "commands": True}, may
    assert may["spinoza"] == {"own": False, "other": True, "events": True, "declare": False, "commands": True}, may
    print(f"      RabbitMQ: connected are {', '.join(sorted(owners))}; no guest; maily reads its own queues, not spinoza's, declares nothing")


# Asks the broker for its own decision about a user, as it makes it for a command on a channel: may it read maily's queue, spinoza's, write events, declare
# a queue, write to the default exchange.
ASK = """
{ok, U} = rabbit_access_control:check_user_login(<<"%s">>, []),
May = fun(Word, Kind, Name, Right) ->
  Answer = try rabbit_access_control:check_resource_access(U, {resource, <<"/">>, Kind, Name}, Right, #{{}}), true catch _:_ -> false end,
  io:format("~s ~s~n", [Word, Answer]) end,
May("own", queue, <<"maily.email">>, read), May("other", queue, <<"spinoza.images">>, read), May("events", exchange, <<"events">>, write),
May("declare", queue, <<"maily.email">>, configure), May("commands", exchange, <<"amq.default">>, write), ok.
""".replace("{{}}", "{}")


def containers(stack):
    """No root, nothing written outside volumes, no capabilities, no shell in ours."""
    for one in stack.containers():
        if one["State"] != "running":
            continue
        described = json.loads(run("docker", "inspect", one["ID"]).stdout)[0]
        host, user = described["HostConfig"], described["Config"]["User"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], one["Service"]
        assert any("no-new-privileges" in option for option in host["SecurityOpt"]), one["Service"]
        assert user.split(":")[0] not in ("", "0", "root"), f"{one['Service']} runs as '{user}'"
        assert host["Memory"] > 0, f"{one['Service']} has no limit of memory"
        secret = [entry for entry in described["Config"]["Env"] if "PASSWORD=" in entry and not entry.endswith("=")]
        assert not secret, f"{one['Service']} has a password in its environment"
    tried = stack.compose("exec", "-T", "gateway", "sh", "-c", "true", check=False)
    assert tried.returncode != 0, "the gateway's image has a shell"
    print("      containers: none as root, root file systems read-only, no capabilities, no shell in ours")
