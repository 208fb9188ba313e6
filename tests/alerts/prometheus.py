"""A real Prometheus with Muster's rules, whose hours pass as minutes."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from local_stack.ports import LOCALHOST, free_port
from tests.unit.deploy.files import DEPLOY
from tests.waiting import until

RULES: Final = DEPLOY / "prometheus" / "alerts.yaml"
#: Windows and patience of the rules are divided by this.
FASTER: Final = 60
#: Thresholds that would take too long to reach, and what stands for them.
THRESHOLDS: Final = {
    "MusterOutboxStuck": ("> 60", "> 1"),
    "MusterTombstonesAtRisk": ("> 302400", "> 5"),
    "MusterOutboxGrowing": ("> 1e6", "> 100"),
    "MusterOutboxBloated": ("> 2e9", "> 5e6"),
}
START_SECONDS: Final = 60.0
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+)([smhd])")


def hastened() -> dict[str, Any]:
    """The rules, sixty times as fast."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in document["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[([^\]]+)\]", lambda window: f"[{_shorter(window[1])}]", rule["expr"])
            if "for" in rule:
                rule["for"] = _shorter(rule["for"])
            if rule.get("alert") in THRESHOLDS:
                real, small = THRESHOLDS[rule["alert"]]
                assert real in rule["expr"], rule["alert"]
                rule["expr"] = rule["expr"].replace(real, small)
    return document


def _shorter(duration: str) -> str:
    found = _DURATION.fullmatch(duration)
    assert found, duration
    return f"{int(found[1]) * _UNITS[found[2]] // FASTER}s"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs; ask it what fires."""

    client: httpx.AsyncClient

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire now, each with its severity."""
        answer = (await self.client.get("/api/v1/alerts")).raise_for_status()
        labels = [alert["labels"] for alert in answer.json()["data"]["alerts"] if alert["state"] == "firing"]
        return {(each["alertname"], each["severity"]) for each in labels}

    async def scrapes(self, jobs: int) -> bool:
        """Whether it has been answered by so many processes."""
        answer = (await self.client.get("/api/v1/query", params={"query": "count(up == 1)"})).raise_for_status()
        result = answer.json()["data"]["result"]
        return bool(result) and int(result[0]["value"][1]) == jobs


@asynccontextmanager
async def running(program: str, folder: Path, targets: Mapping[str, int]) -> AsyncIterator[Prometheus]:
    """Prometheus, as long as the block: `targets` are the inner ports of the jobs."""
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"{LOCALHOST}:{port}"]}]} for job, port in targets.items()
    ]
    (folder / "alerts.yaml").write_text(yaml.safe_dump(hastened()), encoding="utf-8")
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": jobs,
        "rule_files": ["alerts.yaml"],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    address = f"{LOCALHOST}:{free_port()}"
    options = (f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}")
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = await asyncio.create_subprocess_exec(
            program, *options, f"--web.listen-address={address}", stdout=log, stderr=subprocess.STDOUT
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
                prometheus = Prometheus(client)

                async def answers() -> bool:
                    assert process.returncode is None, (folder / "log").read_text(encoding="utf-8")
                    try:
                        return await prometheus.scrapes(len(targets))
                    except httpx.HTTPError:
                        return False

                await until(answers, within=START_SECONDS, what="Prometheus to have asked every process")
                yield prometheus
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
