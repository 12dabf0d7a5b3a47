"""Training on a Ray cluster that KubeRay makes: the object, its pods, and who reaches them."""

import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from hearth_local.paths import CHECKOUT

from deploy.helm.tests.test_cluster import ANY, flows
from tests.support.helm import CHART, VALUES, Chart, Doc, render, run
from tests.support.kuberay import start_command

POD = {"type": "object"}  # checked by Kubernetes' own schema
PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
RAY_CLUSTER = {
    "type": "object",
    "required": ["headGroupSpec"],
    "additionalProperties": False,
    "properties": {
        "rayVersion": {"type": "string"},
        "upgradeStrategy": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"type": {"enum": ["Recreate", "None"]}},
        },
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "idleTimeoutSeconds": COUNT,
                "imagePullPolicy": {"type": "string"},
                "securityContext": POD,
                "resources": POD,
                "env": {"type": "array"},
                "volumeMounts": {"type": "array"},
            },
        },
        "headGroupSpec": {
            "type": "object",
            "required": ["rayStartParams", "template"],
            "additionalProperties": False,
            "properties": {"rayStartParams": PARAMS, "template": POD},
        },
        "workerGroupSpecs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                "additionalProperties": False,
                "properties": {
                    "groupName": {"type": "string"},
                    "replicas": COUNT,
                    "minReplicas": COUNT,
                    "maxReplicas": COUNT,
                    "rayStartParams": PARAMS,
                    "template": POD,
                },
            },
        },
    },
}
"""What we use of the fields of a RayCluster's spec in ray.io/v1.

From KubeRay's definition, helm-chart/kuberay-operator/crds/ray.io_rayclusters.yaml (commit 017710c, release 1.6), and
ray-operator/apis/ray/v1/raycluster_types.go: no package of PyPI's or npm's carries it.
"""
LONGEST_SERVICE = 50
"""Characters after which KubeRay cuts the name of a Service off (`CheckName` in its util.go)."""
NODES = {"ray-head", "ray-workers", "training"}
STEADY = "training.ray.enabled=true,training.ray.workers.replicas=3"


@pytest.fixture(scope="module", params=["examples/ray.yaml", "without autoscaling and token"])
def ray(helm: Path, request: pytest.FixtureRequest) -> Chart:
    """The chart with a Ray cluster."""
    example = request.param == "examples/ray.yaml"
    return render(helm, VALUES["ray"] if example else (*VALUES["defaults"], "--set", STEADY))


def spec_of(chart: Chart) -> Doc:
    spec: Doc = chart.of("RayCluster")["ray"]["spec"]
    return spec


def templates_of(chart: Chart) -> dict[str, Doc]:
    """The pod templates of its groups, by component."""
    spec = spec_of(chart)
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}


def containers_of(chart: Chart) -> dict[str, Doc]:
    """Ray's container of each node: the groups' pods, and the sidecar of the training pod."""
    (sidecar,) = chart.pods["training"]["initContainers"]
    return {"training": sidecar} | {name: each["spec"]["containers"][0] for name, each in templates_of(chart).items()}


def environment(container: Doc) -> dict[str, Doc]:
    return {each["name"]: each for each in container.get("env", [])}


@pytest.mark.parametrize("values", ["defaults", "gpu", "everything"])
def test_nothing_of_it_is_there_while_it_is_off(helm: Path, values: str) -> None:
    chart = render(helm, VALUES[values])
    assert not chart.of("RayCluster")
    assert "ray" not in re.findall(r"[a-z]+", json.dumps(chart.docs).lower().replace("array", ""))
    assert all("initContainers" not in pod for pod in chart.pods.values())


def test_its_fields_are_those_of_kuberay_and_its_pods_those_of_kubernetes(ray: Chart) -> None:
    jsonschema.validate(spec_of(ray), RAY_CLUSTER)
    for template in templates_of(ray).values():
        for version in ("1.37", "1.30"):
            doc = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
            kubernetes_validate.validate(doc, version, strict=True)
    options = spec_of(ray).get("autoscalerOptions", {})
    if options:  # they are those of a container
        parts = ("env", "imagePullPolicy", "resources", "securityContext", "volumeMounts")
        container = {"name": "autoscaler", **{part: options[part] for part in parts}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [container]}}
        kubernetes_validate.validate(pod, "1.37", strict=True)


def test_its_ray_is_the_one_in_the_images(ray: Chart) -> None:
    for lock in ("ray-cpu", "ray-gpu"):
        text = (CHECKOUT / f"services/training/trainer/{lock}.lock").read_text()
        assert re.findall(r"^ray(?:\[\w+\])?==(\S+)", text, re.MULTILINE) == [spec_of(ray)["rayVersion"]]
    images = {each["image"] for each in [*containers_of(ray).values(), ray.containers["training"]]}
    gpus = "nvidia.com/gpu" in containers_of(ray)["ray-workers"]["resources"]["limits"]
    assert images == {f"hearth/training:0.1.0-ray-{'gpu' if gpus else 'cpu'}"}
    assert "ln -s /opt/trainer/bin/ray /usr/local/bin/ray" in (CHECKOUT / "services/training/Dockerfile").read_text()


def test_only_the_groups_workers_train(ray: Chart) -> None:
    head = spec_of(ray)["headGroupSpec"]["rayStartParams"]
    assert (head["num-cpus"], head["num-gpus"]) == ("0", "0")
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(containers_of(ray)["training"]["command"])
    with_gpus = {name for name, each in containers_of(ray).items() if "nvidia.com/gpu" in each["resources"]["limits"]}
    assert with_gpus <= {"ray-workers"}
    assert "nvidia.com/gpu" not in ray.containers["training"]["resources"]["limits"]
    each_takes = environment(ray.containers["training"])["HEARTH_RAY_GPUS_PER_WORKER"]["value"]
    assert each_takes == str(len(with_gpus))  # also of a cluster that has none yet, since it grows when it is asked


def test_the_training_worker_is_on_a_node_before_it_takes_a_run_and_until_it_has_ended(ray: Chart) -> None:
    sidecar, worker = containers_of(ray)["training"], ray.containers["training"]
    assert sidecar["restartPolicy"] == "Always"  # it starts before the pod's own containers, and ends after them
    assert "startupProbe" in sidecar
    variables = environment(worker)
    assert variables["HEARTH_TRAINING_EXECUTOR"]["value"] == "ray"
    address = variables["HEARTH_RAY_ADDRESS"]["value"]
    assert f"--address={address}" in sidecar["command"]
    head = ray.of("RayCluster")["ray"]["metadata"]
    assert address == f"{head['name']}-head-svc.{head['namespace']}.svc:6379"
    mounts = {(mount["name"], mount["mountPath"]) for mount in worker["volumeMounts"]}
    assert {("tmp", "/tmp"), ("memory", "/dev/shm")} <= mounts  # where a driver finds its node
    assert {(mount["name"], mount["mountPath"]) for mount in sidecar["volumeMounts"]} <= mounts


@pytest.mark.parametrize("release", ["a", "a-release-with-a-name-as-long-as-helm-allows-to"])
def test_the_heads_service_has_a_name_that_kuberay_leaves_as_it_is(helm: Path, release: str) -> None:
    done = run(helm, "template", release, str(CHART), "--namespace", "llm", *VALUES["ray"])
    (address,) = set(re.findall(r"[a-z0-9-]+-head-svc(?=\.llm\.svc:6379)", done.stdout))
    assert len(address) <= LONGEST_SERVICE
    assert f"name: {address.removesuffix('-head-svc')}\n" in done.stdout


def test_every_node_listens_where_its_probes_ask_and_has_room_for_its_objects(ray: Chart) -> None:
    spec, containers = spec_of(ray), containers_of(ray)
    params = {
        "ray-head": spec["headGroupSpec"]["rayStartParams"],
        "ray-workers": spec["workerGroupSpecs"][0]["rayStartParams"],
        "training": dict(re.findall(r"--([a-z-]+)=(\S+)", " ".join(containers["training"]["command"]))),
    }
    pods = {name: each["spec"] for name, each in templates_of(ray).items()} | {"training": ray.pods["training"]}
    units = {"Mi": 2**20, "Gi": 2**30}
    for name, container in containers.items():
        port = int(params[name].get("node-manager-port", "6379"))
        probes = [container[each] for each in ("startupProbe", "livenessProbe", "readinessProbe") if each in container]
        assert [probe["tcpSocket"]["port"] for probe in probes] == [port] * (2 if name == "training" else 3)
        (memory,) = (each["emptyDir"]["sizeLimit"] for each in pods[name]["volumes"] if each["name"] == "memory")
        assert int(params[name]["object-store-memory"]) * 2 == int(memory[:-2]) * units[memory[-2:]]
        assert {"/tmp", "/dev/shm"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_kuberay_starts_what_ray_understands(ray: Chart) -> None:
    """That it does is shown by services/training/tests/test_kuberay.py."""
    head = spec_of(ray)["headGroupSpec"]
    words = start_command(head["rayStartParams"], containers_of(ray)["ray-head"], head=True, address="")
    assert words[:3] == ["ray", "start", "--head"]
    assert {"--block", "--disable-usage-stats", "--include-dashboard=false", "--num-cpus=0"} <= set(words)


def test_ray_nodes_are_as_confined_as_other_pods_and_have_no_keys(ray: Chart) -> None:
    autoscaled = spec_of(ray)["enableInTreeAutoscaling"]
    for name, template in templates_of(ray).items():
        pod = template["spec"]
        assert pod["securityContext"] == ray.pods["training"]["securityContext"]
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod.get("serviceAccountName") == (None if autoscaled and name == "ray-head" else "hearth")
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= {"tmp", "memory", "models"}
    for container in containers_of(ray).values():
        assert container["securityContext"] == ray.containers["training"]["securityContext"]
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert environment(container).keys() <= {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "NCCL_DEBUG"}
    (models,) = (m for m in containers_of(ray)["ray-workers"]["volumeMounts"] if m["name"] == "models")
    (there,) = (m for m in ray.containers["training"]["volumeMounts"] if m["name"] == "models")
    assert (models["mountPath"], models["readOnly"]) == (there["mountPath"], True)


def test_a_token_is_everywhere_or_nowhere(ray: Chart) -> None:
    everybody = [*containers_of(ray).values(), ray.containers["training"]]
    options = spec_of(ray).get("autoscalerOptions")
    found = [environment(each).get("RAY_AUTH_TOKEN") for each in [*everybody, *([options] if options else [])]]
    secret = {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "ray-token", "key": "auth_token"}}}
    assert found in ([secret] * len(found), [None] * len(found))
    assert (found[0] is not None) is (options is not None)  # the example has both


def test_the_autoscaler_alone_has_an_account(helm: Path) -> None:
    chart = render(helm, VALUES["ray"])
    spec = spec_of(chart)
    volumes = {each["name"]: each for each in spec["headGroupSpec"]["template"]["spec"]["volumes"]}
    (mount,) = (each for each in spec["autoscalerOptions"]["volumeMounts"] if each["name"] == "account")
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [*volumes["account"]["projected"]["sources"][0]] == ["serviceAccountToken"]
    (group,) = spec["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"], "replicas" in group) == (0, 4, False)  # Ray sets it
    steady = spec_of(render(helm, (*VALUES["defaults"], "--set", STEADY)))["workerGroupSpecs"][0]
    assert (steady["minReplicas"], steady["replicas"], steady["maxReplicas"]) == (3, 3, 3)


def test_rays_ports_are_open_to_its_nodes_alone_and_those_reach_nothing_else(ray: Chart) -> None:
    policies = {name: policy["spec"] for name, policy in ray.of("NetworkPolicy").items()}
    assert policies.keys() == ray.pods.keys() | NODES
    for name, template in templates_of(ray).items():
        assert policies[name]["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    labels = {name: template["metadata"]["labels"] for name, template in templates_of(ray).items()}
    among = {each for each in flows(ray, labels) if {each[0], each[1]} & NODES}
    assert among == {(one, two, ANY) for one in NODES for two in NODES}
    for name in NODES:
        assert all("from" in rule for rule in policies[name]["ingress"])
    autoscaled = spec_of(ray)["enableInTreeAutoscaling"]
    out = {
        name: {port["port"] for rule in policies[name]["egress"] if "to" not in rule for port in rule["ports"]}
        for name in NODES
    }
    assert out["training"] == {53, 6379, 443}
    assert out["ray-head"] == ({53, 443, 6443} if autoscaled else {53})  # the API server
    assert out["ray-workers"] == {53}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("training.gpus=1", "training.gpus must be 0 with training.ray.enabled"),
        ("networkPolicy.enabled=false", "training.ray.tokenSecret must be set where networkPolicy.enabled is false"),
        ("training.ray.workers.replicas=0", "training.ray.workers.replicas must be 1 or more"),
        (
            "training.ray.workers.autoscaling.enabled=true,training.ray.workers.autoscaling.minReplicas=5",
            "minReplicas must not be more than maxReplicas",
        ),
        ("settings.HEARTH_TRAINING_EXECUTOR=local", "HEARTH_TRAINING_EXECUTOR is set by training.ray"),
        ("training.settings.HEARTH_RAY_ADDRESS=auto", "HEARTH_RAY_ADDRESS is set by training.ray"),
        ("training.ray.settings.HEARTH_REDIS_URL=redis://there", "'HEARTH_REDIS_URL' not allowed"),
        ("training.ray.workers.sharedMemory=lots", "/training/ray/workers/sharedMemory"),
        ("training.ray.workers.sharedMemory=149Mi", "training.ray.workers.sharedMemory must be 150Mi or more"),
        ("training.ray.head.sharedMemory=100M", "training.ray.head.sharedMemory must be 150Mi or more"),
        ("training.sharedMemory=0.1Gi", "training.sharedMemory must be 150Mi or more"),
        ("training.ray.settings.RAY_AUTH_TOKEN=secret", "RAY_AUTH_TOKEN is set by training.ray.tokenSecret"),
        ("training.ray.settings.RAY_AUTH_MODE=disabled", "RAY_AUTH_MODE is set by training.ray.tokenSecret"),
        ("training.ray.workers=null", "say --reset-then-reuse-values"),
        ("inference.llm.ray.enabled=true", "/inference/llm"),
    ],
)
def test_values_that_contradict_each_other_are_refused(helm: Path, wrong: str, reason: str) -> None:
    asked = ("--set", f"training.ray.enabled=true,{wrong}")
    done = run(helm, "template", "hearth", str(CHART), *VALUES["defaults"], *asked)
    assert done.returncode != 0
    assert reason in done.stderr


def test_as_much_shared_memory_as_ray_needs_does(helm: Path) -> None:
    places = ("training", "training.ray.head", "training.ray.workers")
    least = ",".join(f"{place}.sharedMemory=150Mi" for place in places)
    render(helm, (*VALUES["ray"], "--set", least))


def test_what_reaches_rays_nodes_are_the_variables_of_ray_and_of_the_networks_that_it_trains_over(helm: Path) -> None:
    names = ["FI_PROVIDER", "GLOO_SOCKET_IFNAME", "NCCL_IB_HCA", "RAY_gcs_rpc_server_reconnect_timeout_s"]
    names += ["TORCH_NCCL_TRACE_BUFFER_SIZE", "UCX_TLS"]
    asked = ",".join(f"training.ray.settings.{name}=1" for name in names)
    for container in containers_of(render(helm, (*VALUES["ray"], "--set", asked))).values():
        assert environment(container).keys() >= set(names)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ((), "900"),  # kubelet alone waits for 300 before it begins anew what has died often
        (("training.settings.HEARTH_RAY_PATIENCE=60",), "60"),
        (("settings.HEARTH_RAY_PATIENCE=70",), "70"),
        (("settings.HEARTH_RAY_PATIENCE=70", "training.settings.HEARTH_RAY_PATIENCE=60"), "60"),
    ],
)
def test_a_run_waits_for_the_cluster_longer_than_kubelet_may(helm: Path, asked: tuple[str, ...], seconds: str) -> None:
    chart = render(helm, (*VALUES["ray"], *(word for each in asked for word in ("--set", each))))
    found = [each for each in chart.containers["training"]["env"] if each["name"] == "HEARTH_RAY_PATIENCE"]
    assert found == [{"name": "HEARTH_RAY_PATIENCE", "value": seconds}]


def test_values_of_a_chart_that_had_no_ray_still_do_while_it_is_off(helm: Path) -> None:
    chart = render(helm, (*VALUES["defaults"], "--set", "training.ray=null"))  # what --reuse-values leaves
    assert chart == render(helm, VALUES["defaults"])


def test_a_token_does_where_there_are_no_network_policies(helm: Path) -> None:
    chart = render(helm, (*VALUES["ray"], "--set", "networkPolicy.enabled=false"))
    assert chart.of("RayCluster")
    assert not chart.of("NetworkPolicy")


def test_a_worker_that_is_to_train_on_a_ray_of_somebody_elses_is_refused_while_it_has_no_ray(helm: Path) -> None:
    asked = ("--set", "training.settings.HEARTH_TRAINING_EXECUTOR=ray")
    done = run(helm, "template", "hearth", str(CHART), *VALUES["defaults"], *asked)
    assert "HEARTH_TRAINING_EXECUTOR is set by training.ray" in done.stderr
