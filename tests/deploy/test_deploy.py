"""Image, compose file, manifests and unit: they say what is so, and the tools they are for accept them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from gateway import cli, config, simulators
from gateway.config import Settings
from gateway.http.operations import OPERATIONS

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = (DEPLOY / "systemd" / "mainstem.service").read_text()
ENVIRON = {"TRIVERSE_KEY": "key", "MAINSTEM_JWT_SECRET": "0123456789abcdef0123456789abcdef"}
OPEN_PATHS = {operation.path for operation in OPERATIONS if operation.scopes is None}


def documents(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(text))


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def understood(arguments: list[str]) -> bool:
    """Whether the command line takes them; nothing is run."""
    command: click.Command = cli.main
    while isinstance(command, click.Group):
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    command.make_context("mainstem", list(arguments), resilient_parsing=False)
    return True


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- image -----------------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of that name."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    """And every package of the wheel is copied."""
    sources = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    let_through = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for source in sources:
        assert (ROOT / source).exists()
        assert source.removesuffix("/") in let_through
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert any(package == source or package.startswith(f"{source}/") for source in sources)


def test_the_image_runs_as_nobody_and_its_commands_exist() -> None:
    """A numeric user, so that `runAsNonRoot` can tell."""
    assert instructions("USER") == ["10001:10001"]
    assert instructions("FROM")[-1] == instructions("FROM")[0].removesuffix(" AS build")
    health = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    entry, command = json.loads(instructions("ENTRYPOINT")[0]), json.loads(instructions("CMD")[0])
    assert health[:1] == entry == ["mainstem"]
    assert understood(health[1:])
    assert understood(command)


def test_the_image_installs_what_is_locked() -> None:
    """Its lock is a part of the whole one, and has everything that the package needs."""

    def pins(path: Path) -> dict[str, str]:
        text = path.read_text().replace("\\\n", "")
        return {
            line.split("==")[0].replace(".", "-"): " ".join(line.split()) for line in text.splitlines() if "==" in line
        }

    ours, whole = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {name: whole.get(name) for name in ours} == ours
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[\[<>=;]", text)[0].lower().replace(".", "-") for text in project["dependencies"]} <= set(ours)


@needs("hadolint")
def test_the_image_is_linted() -> None:
    """By hadolint, without exceptions."""
    run("hadolint", str(DEPLOY / "Dockerfile"))


# --- compose ---------------------------------------------------------------------------------------------------------

COMPOSE = documents((DEPLOY / "compose.yaml").read_text())[0]


def test_the_services_of_compose() -> None:
    """Commands that exist, files that are there, ports on loopback alone, nothing with more rights than it needs."""
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        if service["image"] == "mainstem":
            assert understood(service.get("command", ["run"]))
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    context = DEPLOY / COMPOSE["services"]["gateway"]["build"]["context"]
    assert context.resolve() == ROOT


@needs("docker")
def test_compose_understands_the_file() -> None:
    """No daemon is asked."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("docker has no compose")
    run("docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet")


async def test_the_gateway_of_compose_gets_into_its_simulators() -> None:
    """Names, ports and credentials of the configuration are those of the services."""
    settings = config.load(DEPLOY / "demo" / "config.yaml", {})
    for source in settings.sources:
        upstream = source.adapter
        command = COMPOSE["services"][upstream]["command"]
        assert source.url == f"ws://{upstream}:{command[command.index('--port') + 1]}"
        simulator = await simulators.start(upstream, seed=1, rate=0)  # type: ignore[arg-type]  # one of the three
        try:
            credentials = simulator.credentials
        finally:
            await simulator.stop()
        given = source.model_dump(mode="python")
        for key in {"token", "spaces", "uuid"} & given.keys() & credentials.keys():
            value = given[key]
            plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            assert plain == credentials[key] if isinstance(plain, str) else list(plain) == credentials[key]
    assert {source.adapter for source in settings.sources} == {"triverse", "emit", "catalyst"}


# --- Kubernetes ------------------------------------------------------------------------------------------------------


def containers(objects: list[Any]) -> list[dict[str, Any]]:
    """Every container that runs the gateway, with the pod it is in."""
    pods = [value["spec"]["template"]["spec"] for value in objects if "template" in value.get("spec", {})]
    found = [{"pod": pod, **one} for pod in pods for one in (*pod["containers"], *pod.get("initContainers", ()))]
    return [one for one in found if one["name"] == "mainstem"]


@needs("kubectl")
@pytest.mark.parametrize("kind", ["standalone", "sidecar"])
def test_manifests(kind: str, tmp_path: Path) -> None:
    """They can be built; the gateway in them has no rights, room to drain, probes that exist, and a valid configuration."""
    objects = documents(run("kubectl", "kustomize", str(DEPLOY / "kubernetes" / kind)))
    (container,) = containers(objects)
    security = container["pod"].get("securityContext", {}) | container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, int(instructions("USER")[0].partition(":")[0]))
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["pod"]["automountServiceAccountToken"] is False
    assert understood(container["args"])
    for probe in (value for key, value in container.items() if key.endswith("Probe")):
        if "httpGet" in probe:
            assert probe["httpGet"]["path"] in OPEN_PATHS
        else:
            assert probe["exec"]["command"][0] == "mainstem"
            assert understood(probe["exec"]["command"][1:])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/etc/mainstem", "/var/lib/mainstem"}
    (files,) = [value["data"] for value in objects if value["kind"] == "ConfigMap"]
    path = tmp_path / "config.yaml"
    path.write_text(files["config.yaml"])
    settings: Settings = config.load(path, ENVIRON)
    assert settings.store.path.parent == Path("/var/lib/mainstem")
    assert container["pod"]["terminationGracePeriodSeconds"] > settings.server.drain_timeout + 5
    assert settings.server.is_loopback is (kind == "sidecar")


@needs("kubectl")
@needs("kubernetes-validate")
@pytest.mark.parametrize("kind", ["standalone", "sidecar"])
def test_manifests_are_what_kubernetes_takes(kind: str, tmp_path: Path) -> None:
    """By its own schemas, unknown keys refused."""
    path = tmp_path / "built.yaml"
    path.write_text(run("kubectl", "kustomize", str(DEPLOY / "kubernetes" / kind)))
    run("kubernetes-validate", "--strict", "-k", "1.32", str(path))


@needs("kubectl")
def test_a_log_has_one_owner() -> None:
    """One replica, replaced only when the old one is gone."""
    objects = documents(run("kubectl", "kustomize", str(DEPLOY / "kubernetes" / "standalone")))
    (stateful,) = [value for value in objects if value["kind"] == "StatefulSet"]
    assert stateful["spec"]["replicas"] == 1
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]


# --- systemd ---------------------------------------------------------------------------------------------------------


def test_the_unit_runs_commands_that_exist() -> None:
    """And is told when the gateway is up, and that it is alive."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    for key in ("ExecStartPre", "ExecStart"):
        program, *arguments = shlex.split(settings[key])
        assert program.endswith("/bin/mainstem")
        assert understood(arguments)
    assert settings["Type"] == "notify"
    assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(settings["WatchdogSec"]) > 0
    assert settings["RestartPreventExitStatus"] == "2"


@needs("systemd-analyze")
def test_systemd_understands_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    """No complaint, and an exposure (0 to 10) of less than 2."""
    unit = tmp_path / "mainstem.service"
    unit.write_text(UNIT.replace("/opt/mainstem/bin/mainstem", "/bin/true"))
    assert run("systemd-analyze", "verify", str(unit)) == ""
    rated = run("systemd-analyze", "security", "--offline=true", str(unit))
    level = re.search(r"Overall exposure level for mainstem.service: ([\d.]+)", rated)
    assert level is not None
    assert float(level[1]) < 2
