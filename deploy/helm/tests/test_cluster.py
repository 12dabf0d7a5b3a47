"""What a cluster does to pods: kills, drains, scales, separates them."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from hearth_jobs.attempt import STUCK_SECONDS
from hearth_local.paths import CHECKOUT

from tests.support.helm import VALUES, Chart, Doc, render

HTTP = {"gateway", "management", "dataset"}
ANY = "any port"


def test_no_container_lacks_limits_probes_or_a_narrow_security_context(chart: Chart) -> None:
    for component, pod in chart.pods.items():
        (container,) = pod["containers"]
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() >= {"cpu", "memory"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001  # as the images have it
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert {"startupProbe", "livenessProbe"} <= container.keys()
        assert ("readinessProbe" in container) is (component in HTTP)


def test_no_service_puts_variables_of_our_names_into_pods(chart: Chart) -> None:
    """HEARTH_GATEWAY_PORT=tcp://10.0.0.1:80 would stop the gateway: it is a setting of ours, and no number."""
    assert chart.of("Service").keys() >= HTTP
    assert all(pod["enableServiceLinks"] is False for pod in chart.pods.values())


def test_no_probe_ends_a_process_because_a_store_is_away(chart: Chart) -> None:
    for component, container in chart.containers.items():
        liveness = container["livenessProbe"]
        if component in HTTP:
            assert liveness["httpGet"]["path"] == "/health/live"
            assert container["readinessProbe"]["httpGet"]["path"] == "/health/live"
        else:
            assert liveness["exec"]["command"][-1] == "--redis-or-not"


def test_a_pod_that_is_told_to_stop_has_the_time_that_its_service_was_promised(chart: Chart) -> None:
    def grace(component: str, setting: str) -> tuple[int, int]:
        env = {each["name"]: each.get("value") for each in chart.containers[component]["env"]}
        return chart.pods[component]["terminationGracePeriodSeconds"], int(env[setting])

    pause = chart.containers["gateway"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    whole, promised = grace("gateway", "HEARTH_DRAIN_TIMEOUT")
    assert whole >= pause + promised + 5
    whole, promised = grace("training", "HEARTH_TRAINER_GRACE")
    assert whole >= promised + STUCK_SECONDS + 10
    for component in ("inference-llm", "inference-embeddings"):
        whole, promised = grace(component, "HEARTH_ENGINE_GRACE_SECONDS")
        assert whole >= promised + 10 + STUCK_SECONDS  # an engine is given ten seconds to end


def test_nodes_can_be_drained_one_pod_at_a_time(chart: Chart) -> None:
    budgets = chart.of("PodDisruptionBudget")
    assert budgets.keys() == chart.pods.keys()
    for component, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        labels = chart.of("Deployment")[component]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"] == labels


def test_services_lead_to_ports_that_are_there_and_metrics_are_not_published(chart: Chart) -> None:
    for name, service in chart.of("Service").items():
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        ports = {each["name"] for each in chart.containers[component]["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
        if name != "gateway-metrics":
            assert {each["targetPort"] for each in service["spec"]["ports"]} == {"http"}
        if name != "gateway":
            assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    env = {each["name"]: each.get("value", "") for each in chart.containers["gateway"]["env"]}
    for component in ("management", "dataset"):
        (port,) = chart.of("Service")[component]["spec"]["ports"]
        assert env[f"HEARTH_{component.upper()}_URL"] == f"http://hearth-{component}:{port['port']}"


def test_gpus_are_asked_for_where_an_image_for_gpus_runs(helm: Path) -> None:
    chart = render(helm, VALUES["gpu"])
    for component, container in chart.containers.items():
        has_gpu = component in ("training", "inference-llm")
        assert (container["resources"]["limits"].get("nvidia.com/gpu") == 1) is has_gpu
        assert container["image"].endswith("-gpu") is has_gpu
        assert ("nodeSelector" in chart.pods[component]) is has_gpu
    env = {each["name"]: each.get("value") for each in chart.containers["inference-llm"]["env"]}
    assert env["HEARTH_ENGINE_DEVICE"] == "cuda"


def test_who_is_scaled_by_load_has_no_number_of_its_own(everything: Chart) -> None:
    scalers = {**everything.of("HorizontalPodAutoscaler"), **everything.of("ScaledObject")}
    assert scalers.keys() == {"gateway", "training", "inference-llm", "inference-embeddings"}
    for name, scaler in scalers.items():
        assert scaler["spec"]["scaleTargetRef"]["name"] == f"hearth-{name}"
    for name, deployment in everything.of("Deployment").items():
        assert ("replicas" in deployment["spec"]) is (name not in scalers)


def test_what_scales_workers_is_a_query_that_prometheus_takes_on_metrics_that_we_have(
    everything: Chart, tmp_path: Path
) -> None:
    queries = [each["spec"]["triggers"][0]["metadata"]["query"] for each in everything.of("ScaledObject").values()]
    rules = [{"record": f"scaler:{place}", "expr": query} for place, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "scalers", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    table = set(re.findall(r"^\| `(hearth_\w+)` ", (CHECKOUT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert set(re.findall(r"hearth_\w+", " ".join(queries))) <= table
    assert all('namespace="llm"' in query for query in queries)


def test_the_cluster_has_the_alerts_and_dashboards_that_compose_has(everything: Chart) -> None:
    (rule,) = everything.of("PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((CHECKOUT / "deploy/prometheus/alerts.yml").read_text())
    boards = {path.name: path.read_text() for path in (CHECKOUT / "deploy/grafana/dashboards").glob("*.json")}
    found = everything.of("ConfigMap")["dashboards"]["data"]
    assert {name: text.strip() for name, text in found.items()} == {name: text.strip() for name, text in boards.items()}
    jobs = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (engines,) = everything.of("ScrapeConfig").values()
    assert {*everything.of("ServiceMonitor"), engines["spec"]["jobName"]} == {each["job_name"] for each in jobs}


# -- who may talk to whom --------------------------------------------------------------------------------------------


def matches(peers: list[Doc], labels: Doc) -> bool:
    """Whether one of a rule's peers is a pod of the namespace with these labels."""
    chosen = [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
    return any(selector.items() <= labels.items() for selector in chosen)


def ports(rule: Doc) -> set[object]:
    return {each["port"] for each in rule.get("ports", []) if each["protocol"] == "TCP"} or {ANY}


def flows(chart: Chart, others: Mapping[str, Doc] = MappingProxyType({})) -> set[tuple[str, str, object]]:
    """From which component to which, on which port, policies let through. `others`: more pods' labels by component."""
    labels = {name: doc["spec"]["template"]["metadata"]["labels"] for name, doc in chart.of("Deployment").items()}
    labels |= others
    policies = {name: doc["spec"] for name, doc in chart.of("NetworkPolicy").items()}
    found = set()
    for source, out in policies.items():
        for target, into in policies.items():
            leaving = [each for each in out["egress"] if matches(each.get("to", []), labels[target])]
            coming = [each for each in into.get("ingress", []) if matches(each.get("from", []), labels[source])]
            found |= {(source, target, port) for one in leaving for two in coming for port in ports(one) & ports(two)}
    return found


@pytest.mark.parametrize("values", ["defaults", "everything"])
def test_pods_reach_one_another_where_they_must_and_compose_lets_them_and_nowhere_else(helm: Path, values: str) -> None:
    chart = render(helm, VALUES[values])
    assert chart.of("NetworkPolicy").keys() == chart.pods.keys()
    for name, policy in chart.of("NetworkPolicy").items():
        labels = chart.of("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
        assert policy["spec"]["podSelector"]["matchLabels"] == labels
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    found = flows(chart)
    assert found == {
        ("gateway", "management", 8081),
        ("gateway", "dataset", 8082),
        ("gateway", "inference-llm", ANY),
        ("gateway", "inference-embeddings", ANY),
        ("management", "inference-llm", ANY),
        ("management", "inference-embeddings", ANY),
    }
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    for source, target, _ in found:
        assert set(services[source]["networks"]) & set(services[target]["networks"])


def test_an_inference_node_with_models_of_its_own_may_write_them_and_reach_the_hub(helm: Path) -> None:
    asked = "inference.llm.ownModels=100Gi,hub.port=8443,hub.endpoint=https://mirror.example.com:8443"
    chart = render(helm, (*VALUES["defaults"], "--set", asked))
    for component, has_own in (("inference-llm", True), ("inference-embeddings", False)):
        (volume,) = (each for each in chart.pods[component]["volumes"] if each["name"] == "models")
        (mount,) = (each for each in chart.containers[component]["volumeMounts"] if each["name"] == "models")
        assert volume.get("emptyDir") == ({"sizeLimit": "100Gi"} if has_own else None)
        assert ("persistentVolumeClaim" in volume, mount["readOnly"]) == (not has_own, not has_own)
        environment = {each["name"]: each.get("value") for each in chart.containers[component]["env"]}
        assert ("HF_ENDPOINT" in environment) is has_own
        assert environment.get("HEARTH_FETCHED_MODELS_MAX") == ("100GiB" if has_own else None)
        egress = chart.of("NetworkPolicy")[component]["spec"]["egress"]
        assert any(8443 in ports(rule) for rule in egress if "to" not in rule) is has_own


def test_only_the_gateway_is_reached_from_outside_and_only_who_compose_lets_out_reaches_the_hub(helm: Path) -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    outsiders = {"redis": 6379, "s3": 443, "hub": 8443}
    collector = "traces.endpoint=http://otel-collector.monitoring.svc:4318"
    chart = render(helm, (*VALUES["defaults"], "--set", f"hub.port={outsiders['hub']},{collector}"))
    open_to_all, leads_out = {}, {}
    for name, policy in chart.of("NetworkPolicy").items():
        open_to_all[name] = {p for rule in policy["spec"].get("ingress", []) if "from" not in rule for p in ports(rule)}
        leads_out[name] = {p for rule in policy["spec"]["egress"] if "to" not in rule for p in ports(rule)} - {53, 4318}
    assert {name: found for name, found in open_to_all.items() if found} == {"gateway": {8080}}
    assert all('"port": 4318' in json.dumps(policy) for policy in chart.of("NetworkPolicy").values())
    assert {name for name in chart.pods if "ports" in services[name]} == {"gateway"}
    stores = {outsiders["redis"], outsiders["s3"]}
    assert leads_out == {
        **dict.fromkeys(("dataset", "training", "inference-llm", "inference-embeddings"), stores),
        "management": {*stores, outsiders["hub"]},
        "downloads": {*stores, outsiders["hub"]},
        "gateway": {outsiders["redis"]},
    }
    assert all("edge" in services[name]["networks"] for name, found in leads_out.items() if outsiders["hub"] in found)
