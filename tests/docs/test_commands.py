"""The commands of the documentation, typed as they stand there, on a cluster that was made as it says.

The tests go in the order in which somebody would read: each finds the cluster as the one before has left it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from deploy.rules.alerts import ALERTS
from tests.docs.pages import ROOT, Command, commands, help_commands, pages, table_commands
from tests.docs.reader import Reader
from tests.operator.harness import eventually, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TOUR = "docs/tour.md"
RUNBOOKS = tuple(f"docs/runbooks/{alert.runbook}.md" for alert in ALERTS)
#: Headings of the tour: what makes the cluster, and what clears it away.
MADE, CLEARED = frozenset({"A cluster", "Install"}), frozenset({"Clear away"})
#: What a reader of the tour would write for the placeholders of tables and help.
WORDS = {"JOB": "gang-1 -n research"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A cluster, and DRSE on it, as the tour makes them."""
    reader = Reader.in_checkout(tmp_path_factory.mktemp("checkout"))
    try:
        for command in commands(TOUR, headings=MADE):
            reader.run(command)
        job = (ROOT / "manifests/examples/batch-evaluation.yaml").read_text(encoding="utf-8")
        (reader.folder / "job.yaml").write_text(job, encoding="utf-8")
        yield reader
    finally:
        reader.run(Command(TOUR, "drse-local down --name tour --purge"))


def headings(page: str) -> frozenset[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return frozenset(re.findall(r"^## (.+)$", text, re.MULTILINE))


def test_the_tour(reader: Reader) -> None:
    for command in commands(TOUR, headings=headings(TOUR) - MADE - CLEARED):
        reader.run(command)


@pytest.mark.parametrize("page", ["README.md", "docs/console.md", "docs/install.md", "helm/drse/README.md"])
def test_pages_that_find_the_cluster_as_the_tour_leaves_it(reader: Reader, page: str) -> None:
    for command in [*commands(page), *table_commands(page)]:
        reader.run(command, WORDS | free_ports())


def free_ports() -> dict[str, str]:
    """Those that pages name may be taken on the machine of a test."""
    return {"drse-console 8085": "drse-console :8085", ":8080": f":{free_port()}"}


def test_the_examples_in_the_help_of_commands(reader: Reader) -> None:
    for command in help_commands():
        reader.run(command, WORDS)


def test_the_next_steps_that_the_chart_prints(reader: Reader) -> None:
    notes = reader.run(Command("NOTES.txt", "helm get notes drse --namespace drse-system"))
    steps = re.findall(r"(?:^ {5}.*\n)+", notes, re.MULTILINE)
    assert len(steps) > 3, notes
    for step in steps:
        text = re.sub(r"^ {5}", "", step, flags=re.MULTILINE).strip()
        reader.run(Command("NOTES.txt", text), free_ports())
    reader.run(Command("NOTES.txt", "kubectl delete dsj first --namespace default"))


def test_the_first_steps_of_the_runbooks(reader: Reader) -> None:
    """For a service that runs: there is nothing to find, but every command must be answered."""
    for page in RUNBOOKS:
        for command in commands(page):
            reader.run(command, {"NAMESPACE": "serving", "NAME": "chat"})


def test_the_tour_clears_away(reader: Reader) -> None:
    for command in commands(TOUR, headings=CLEARED):
        if "drse-local down" not in command.text:  # the last of it; the fixture does that
            reader.run(command)


def test_a_program_of_the_release_that_ends_is_started_again(reader: Reader) -> None:
    def forecaster() -> int:
        programs = reader.run(Command(TOUR, "drse-local status --name tour"))
        lines = [line.split() for line in programs.splitlines() if line.startswith("drse-forecaster-0 ")]
        return int(lines[0][1]) if lines else 0

    before = forecaster()
    assert before
    reader.run(Command(TOUR, f"kill -9 {before}"))
    eventually(forecaster, lambda now: now not in (0, before), 120)


def test_a_test_of_the_release_that_fails_is_told(reader: Reader) -> None:
    """As `helm test` would see it of a pod whose command ends with another status than 0."""
    account = {"serviceAccountName": "drse-operator", "automountServiceAccountToken": True}
    container = {"name": "doctor", "image": "none:1", "command": ["drse", "why", "nobody"]}
    labels = {f"app.kubernetes.io/{k}": v for k, v in (("part-of", "drse"), ("instance", "drse"))}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "failing",
            "namespace": "drse-system",
            "labels": {**labels, "app.kubernetes.io/component": "test"},
        },
        "spec": {**account, "restartPolicy": "Never", "containers": [container]},
    }
    (reader.folder / "failing.yaml").write_text(yaml.safe_dump(pod), encoding="utf-8")
    reader.run(Command(TOUR, "kubectl apply -f failing.yaml"))
    until = "--for=jsonpath='{.status.phase}'=Failed --timeout=120s"
    reader.run(Command(TOUR, f"kubectl wait pod/failing -n drse-system {until}"))
    told = reader.run(Command(TOUR, "kubectl get pod failing -n drse-system -o yaml"))
    (status,) = yaml.safe_load(told)["status"]["containerStatuses"]
    ended = status["state"]["terminated"]
    assert ended["exitCode"] == 1 and "there is no DeepSeekJob nobody" in ended["message"]
    reader.run(Command(TOUR, "kubectl delete -f failing.yaml"))


def test_after_a_rollout_programs_are_where_they_were(reader: Reader) -> None:
    """And `env --wait` returns only when those of the new generation answer."""
    answers = "import os, urllib.request as r; r.urlopen(os.environ['DRSE_FORECASTER'] + '/metrics')"
    before = reader.run(Command(TOUR, "echo $DRSE_FORECASTER"))
    assert before.strip()
    reader.run(Command(TOUR, "kubectl set env deployment/drse-forecaster -n drse-system ROLLED=out"))
    reader.run(Command(TOUR, 'eval "$(drse-local env --name tour --wait)"'))
    assert reader.run(Command(TOUR, "echo $DRSE_FORECASTER")) == before
    reader.run(Command(TOUR, f'no_proxy=127.0.0.1 python -c "{answers}"'))


@pytest.mark.parametrize("page", ["docs/first-job.md", "docs/operations.md"])
def test_pages_that_make_what_they_need(reader: Reader, page: str) -> None:
    for command in commands(page):
        reader.run(command)


def test_the_programs_of_a_release_end_with_it(reader: Reader) -> None:
    """The operations page has removed it."""
    status = Command(TOUR, "drse-local status --name tour")
    eventually(lambda: reader.run(status), lambda printed: "drse-operator" not in printed, 120)


def test_every_page_with_commands_is_among_them() -> None:
    tested = {TOUR, "README.md", "docs/console.md", "docs/install.md", "helm/drse/README.md"}
    tested |= {"docs/first-job.md", "docs/operations.md", *RUNBOOKS}
    assert {page for page in pages() if commands(page)} <= tested
