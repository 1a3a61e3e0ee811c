"""Console and command line ask a real Prometheus, also behind TLS and a bearer token."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from drse_local.pki import create_pki
from drse_operator.outside import alerts
from drse_operator.outside.options import prometheus_options
from drse_operator.outside.prometheus import PrometheusError, PrometheusSettings, connect
from drse_operator.outside.use import DEFAULT_UTILIZATION, Utilization, unmeasured
from tests.forecaster.guarded import guarded
from tests.forecaster.prometheus import PrometheusProcess
from tests.operator.harness import free_port

#: Each vendor's exporter as it is; one GPU is scraped twice, and one is held and not measured.
SERIES = {
    'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-n",instance="a"}': 40,
    'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-n",instance="b"}': 40,
    'gpu_gfx_activity{gpu_uuid="GPU-a"}': 75,
    'habanalabs_utilization{UUID="GPU-h"}': 120,
    'own_busy{card="GPU-o"}': 0.5,
    'drse_gpu_assigned{UUID="GPU-n",deepseekjob="x"}': 1,
    'drse_gpu_assigned{UUID="GPU-lost",deepseekjob="x"}': 1,
}
RULES = {
    "groups": [
        {
            "name": "drse",
            "rules": [
                {"alert": "DRSENoLeader", "expr": "vector(1)", "labels": {"severity": "critical"}},
                {
                    "alert": "DRSEJobWaitsTooLong",
                    "expr": "vector(1)",
                    "labels": {"severity": "warning", "queue": "q"},
                },
                {"alert": "SomebodyElses", "expr": "vector(1)"},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    prometheus = PrometheusProcess(folder, free_port())
    now = int(time.time())
    names = dict.fromkeys(series.partition("{")[0] for series in SERIES)
    lines = [
        line
        for name in names
        for line in (
            f"# TYPE {name} gauge",
            *(
                f"{series} {value} {at}"
                for series, value in SERIES.items()
                if series.startswith(f"{name}{{")
                for at in range(now - 60, now + 3600, 60)
            ),
        )
    ]
    prometheus.backfill("\n".join([*lines, "# EOF", ""]))
    prometheus.start()
    yield prometheus.url
    prometheus.stop()


async def use(settings: PrometheusSettings) -> dict[str, float]:
    async with connect(settings) as prometheus:
        return await prometheus.use()


async def test_use_is_read_from_every_vendors_exporter(url: str) -> None:
    assert await use(PrometheusSettings(url=url)) == {"GPU-n": 0.4, "GPU-a": 0.75, "GPU-h": 1.0}


async def test_use_is_read_from_an_exporter_of_ones_own(url: str) -> None:
    own = Utilization.parse("own_busy:1:card")
    assert await use(PrometheusSettings(url=url, exporters=(own,))) == {"GPU-o": 0.5}


async def test_held_gpus_that_nobody_measures_are_counted(url: str) -> None:
    async with connect(PrometheusSettings(url=url)) as prometheus:
        (result,) = await prometheus.instant(unmeasured(DEFAULT_UTILIZATION))
    assert result.number == 1


async def test_drses_alerts_are_told_the_gravest_first_and_nobody_elses(tmp_path: Path, url: str) -> None:
    """On a Prometheus without a recorded future, which would keep it from adding anything."""
    ruled = PrometheusProcess(tmp_path, free_port())
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yml"]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    ruled.start()
    try:
        async with connect(PrometheusSettings(url=ruled.url)) as prometheus:
            deadline = time.monotonic() + 60
            while len(found := await alerts.firing(prometheus)) < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
            assert [(alert.name, alert.about) for alert in found] == [
                ("DRSENoLeader", ""),
                ("DRSEJobWaitsTooLong", "queue q"),
            ]
            assert await alerts.loaded(prometheus)
    finally:
        ruled.stop()
    async with connect(PrometheusSettings(url=url)) as prometheus:
        assert not await alerts.firing(prometheus) and not await alerts.loaded(prometheus)


# -- behind TLS and a token --------------------------------------------------------------------------------


async def test_a_token_that_is_renewed_and_a_certificate_of_ones_own(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    pki = create_pki(tmp_path / "pki")
    with guarded(url, pki, "right") as address:
        settings = PrometheusSettings(url=address, token_file=token, ca_file=pki.ca_cert)
        async with connect(settings) as prometheus:
            token.write_text("wrong\n")
            with pytest.raises(PrometheusError, match=r"refuses \(403\): check the token"):
                await prometheus.use()
            token.write_text("right\n")
            assert "GPU-n" in await prometheus.use()
            token.unlink()
            with pytest.raises(PrometheusError, match=r"token for Prometheus, .* cannot be read"):
                await prometheus.use()
        token.write_text("right\n")
        with pytest.raises(PrometheusError, match="certificate"):
            await use(PrometheusSettings(url=address, token_file=token))
        unchecked = PrometheusSettings(url=address, token_file=token, verify_tls=False)
        assert "GPU-n" in await use(unchecked)
    token.write_text("no certificate")
    with pytest.raises(PrometheusError, match="holds no certificates"):
        await use(PrometheusSettings(url=address, ca_file=token))


# -- what goes wrong ---------------------------------------------------------------------------------------


async def test_nobody_is_there() -> None:
    with pytest.raises(PrometheusError, match=r"does not answer .*: check its address"):
        await use(PrometheusSettings(url=f"http://127.0.0.1:{free_port()}"))


async def test_a_password_in_the_address_is_not_told() -> None:
    async with connect(PrometheusSettings(url="http://ann:secret@127.0.0.1:1/base")) as prometheus:
        with pytest.raises(PrometheusError) as told:
            await prometheus.instant("up")
    assert "Prometheus at http://127.0.0.1:1/base does not answer" in str(told.value)
    assert "secret" not in str(told.value)


async def test_a_query_that_is_refused(url: str) -> None:
    async with connect(PrometheusSettings(url=url)) as prometheus:
        with pytest.raises(PrometheusError, match=r"refuses a query: .*parse error"):
            await prometheus.instant("sum(")


async def test_silence_and_trickles_end_at_the_time_limit() -> None:
    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            try:
                for _ in range(600):  # more often than a limit on each read would notice
                    connection.sendall(b" ")
                    time.sleep(0.1)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=(listener,), daemon=True).start()
        settings = PrometheusSettings(url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)
        with pytest.raises(PrometheusError, match=r"within 0\.5 s"):
            await use(settings)


async def test_something_else_is_no_prometheus(url: str) -> None:
    with pytest.raises(PrometheusError, match="not Prometheus' API"):
        await use(PrometheusSettings(url=f"{url}/nowhere"))


# -- options -----------------------------------------------------------------------------------------------


@click.command()
@prometheus_options("--prometheus-url", "Where.", envvar="TEST_PROMETHEUS")
def show(prometheus: PrometheusSettings | None) -> None:
    click.echo(repr(prometheus))


def test_options_become_settings(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    environment = {
        "TEST_PROMETHEUS": "http://prometheus:9090",
        "TEST_PROMETHEUS_TOKEN_FILE": str(token),
        "TEST_PROMETHEUS_UTILIZATION_METRIC": "a:1 b:100:card",
    }
    expected = PrometheusSettings(
        url="http://prometheus:9090",
        token_file=token,
        exporters=(Utilization("a", 1.0), Utilization("b", 100.0, "card")),
    )
    assert CliRunner(env=environment).invoke(show).stdout.strip() == repr(expected)
    assert CliRunner().invoke(show).stdout.strip() == "None"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--prometheus-url", "prometheus:9090"), "write http://HOST:PORT"),
        (("--prometheus-url", "http://[x"), "write http://HOST:PORT"),
        (("--prometheus-url", "http://prometheus..svc"), "write http://HOST:PORT"),
        (("--utilization-metric", "a b"), "is not a Prometheus name"),
        (("--utilization-metric", "a:none"), "is not a number"),
        (("--prometheus-token-file", "/no/such/file"), "does not exist"),
    ],
)
def test_wrong_options_are_wrong_usage(words: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(show, words)
    assert result.exit_code == 2 and says in " ".join(result.stderr.split())


def test_help_is_whole() -> None:
    text = CliRunner().invoke(show, ["--help"]).stdout
    assert all(f"--{name}" in text for name in ("prometheus-ca-file", "insecure-skip-tls-verify"))
