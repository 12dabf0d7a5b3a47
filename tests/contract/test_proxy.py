"""Behind a reverse proxy that ends TLS and shows Hearth under a path: a real nginx in front of the real platform."""

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from hearth_local.paths import env_python
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import CONVERSATIONS, Running
from tests.support.servers import free_port

pytestmark = pytest.mark.timeout(600)

PREFIX = "/llm"
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    client_max_body_size 0;
    location {prefix}/ {{
      proxy_pass {url}/;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Prefix {prefix};
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def outside(platform: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """How the platform looks from outside: https, and under a path."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    certify = [env_python("clients"), "-m", "trustme", "--quiet", "--dir", folder]
    subprocess.run(certify, check=True)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, prefix=PREFIX, url=platform.url))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "these tests need nginx (on Debian: apt install nginx-light)"
    nginx = subprocess.Popen([program, "-p", folder, "-c", config, "-e", "stderr"])
    try:
        trusted = ssl.create_default_context(cafile=str(folder / "client.pem"))
        base = f"https://localhost:{port}{PREFIX}"
        with httpx.Client(base_url=base, verify=trusted, timeout=60, trust_env=False) as client:
            for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05)):
                with attempt:
                    assert client.get("/health/live").status_code == 200
            yield client
    finally:
        nginx.terminate()
        nginx.wait(10)


def test_swagger_loads_from_under_the_path_and_calls_under_it(outside: httpx.Client) -> None:
    reply = outside.get("/api/docs/")
    origin = str(outside.base_url.copy_with(path="/")).rstrip("/")
    loaded = re.findall(r'(?:src|href|url)[=:]\s*["\']([^"\']+)', reply.text)
    assert loaded
    assert {outside.get(origin + url).status_code for url in loaded} == {200}
    document = outside.get("/api/openapi.json").json()
    assert document["servers"] == [{"url": PREFIX}]
    called = outside.get(origin + document["servers"][0]["url"] + "/api/v1/jobs/")
    assert isinstance(called.json(), list)


def test_no_path_is_redirected_and_no_body_lost(outside: httpx.Client) -> None:
    for slash in ("", "/"):
        assert outside.get(f"/api/v1/jobs{slash}").status_code == 200
        reply = outside.post(f"/api/v1/finetune{slash}", json={"name": "x", "model_id": "acme/no", "dataset_id": "y"})
        assert reply.status_code == 404
        assert "acme/no" in reply.json()["detail"]
    assert isinstance(outside.get("/api/v1/models/").json(), list)
    assert outside.get("/api/v1/models").json()["object"] == "list"


def test_an_upload_passes_whole(outside: httpx.Client, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(CONVERSATIONS.read_bytes() * 1000)  # megabytes: more than nginx keeps in memory
    with file.open("rb") as body:
        made = outside.post("/api/v1/datasets/upload/", files={"file": ("train.jsonl", body)}).json()
    assert outside.get(f"/api/v1/datasets/{made['id']}/").content == file.read_bytes()
    assert outside.delete(f"/api/v1/datasets/{made['id']}/").status_code == 204


@pytest.mark.usefixtures("deployed")
def test_a_stream_is_not_held_back(outside: httpx.Client) -> None:
    client = openai.OpenAI(base_url=f"{outside.base_url}v1", api_key="unused", http_client=outside, max_retries=0)
    began = time.monotonic()
    arrivals = [
        time.monotonic() - began
        for event in client.completions.create(
            model="Compressa-LLM", prompt="Hello", max_tokens=300, stream=True, extra_body={"ignore_eos": True}
        )
        if event.choices
    ]
    assert len(arrivals) > 20
    assert arrivals[0] < arrivals[-1] / 2
