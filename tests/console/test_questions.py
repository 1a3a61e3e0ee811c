"""What an administrator wants to know, asked with the mouse from the front page: two clicks at the most."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.browsing import Site, needs_chromium

pytestmark = needs_chromium


class Asking:
    """A reader who begins at the front page and counts their clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        page.goto("/")

    def click(self, target: Locator) -> None:
        """One click more."""
        self.clicks += 1
        assert self.clicks <= 2, "more than two clicks"
        target.click()
        self.page.wait_for_load_state()

    def menu(self, name: str) -> None:
        """An entry of the navigation."""
        self.click(self.page.locator(".side nav").get_by_role("link", name=name, exact=True))


@pytest.fixture
def asking(quiet: Site) -> Iterator[Asking]:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    yield Asking(quiet.page(context))
    context.close()


def test_who_holds_a_gpu(quiet: Site, asking: Asking) -> None:
    world = quiet.served.cluster.world
    job = next(j for j in world.all_jobs() if any(a.devices for a in j.status.assignments))
    device = next(a for a in job.status.assignments if a.devices).devices[0]
    asking.menu("GPUs")
    asking.click(asking.page.locator("input[type=search]"))
    asking.page.keyboard.type(device.uuid)
    asking.page.keyboard.press("Enter")
    asking.page.wait_for_url(f"**q={device.uuid}")
    row = asking.page.locator("main .data tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(f"{job.key.namespace}/{job.key.name}")


def test_why_a_job_waits_and_until_when(quiet: Site, asking: Asking) -> None:
    waiting = next(
        j
        for j in quiet.served.cluster.world.all_jobs()
        if j.status.queue is not None and j.status.queue.reason == "WaitingForTurn" and j.status.queue.eta
    )
    assert waiting.status.queue is not None
    asking.click(asking.page.get_by_role("link", name="GPUs waited for"))
    asking.click(asking.page.locator(f'tr[data-id="{waiting.key}"] th a'))
    why = asking.page.locator(".why")
    expect(why.locator("h2")).to_contain_text("WaitingForTurn")
    expect(why.locator(".says")).to_contain_text("goes first")
    expect(why.get_by_text("Starts", exact=True).locator("..")).to_contain_text(re.compile(r"\d\d:\d\d–"))


@pytest.mark.parametrize("way", ["Queues", "What if"])
def test_a_queue_with_twice_its_weight(quiet: Site, asking: Asking, way: str) -> None:
    asking.menu(way)
    if way == "Queues":
        asking.click(asking.page.get_by_title("What if training had twice its weight?"))
    else:
        asking.click(asking.page.get_by_role("link", name="Twice the weight of training"))
    expect(asking.page).to_have_url(re.compile(r"/whatif\?weight\.training=6$"))
    expect(asking.page.get_by_label("Weight of training")).to_have_value("6")
    answer = asking.page.locator("section", has_text="What queues are due")
    row = answer.locator("tr", has_text="training")
    expect(row).to_contain_text("3 → 6")
    now, then = (float(x) for x in re.findall(r"([\d.]+) → ([\d.]+)", row.inner_text())[1])
    assert then > now
    expect(answer).to_contain_text(re.compile("start(s)? (earlier|later)|Nobody starts"))


def test_the_page_of_a_queue_asks_the_same(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/queues/training")
    page.get_by_role("link", name="twice the weight?").click()
    expect(page.locator("tr", has_text="training").first).to_contain_text("3 → 6")
    context.close()


def test_who_used_how_much_last_week(asking: Asking) -> None:
    asking.menu("Reports")
    expect(asking.page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    expect(asking.page.locator("#lead")).to_contain_text(
        re.compile(r"held most: [\d,.]+ of [\d,.]+ GPU-hours")
    )
    asking.click(asking.page.get_by_role("link", name="User", exact=True))
    names = asking.page.locator("main .data tbody th")
    assert set(names.all_inner_texts()) <= {
        "amara",
        "bjorn",
        "chen",
        "dalia",
        "emeka",
        "farid",
        "greta",
        "hiro",
    }
    assert names.count() > 3


def test_whether_the_forecast_is_worth_trusting(asking: Asking) -> None:
    asking.menu("Forecast")
    expect(asking.page.locator("#verdict")).to_have_text(
        re.compile(
            r"Worth trusting for \d+ of \d+ jobs: .* error is \d+ % below .* \d+ % of loads stayed below P90"
        )
    )


def test_whether_drse_is_healthy(asking: Asking) -> None:
    sentence = re.compile(r"DRSE is well: .* leads; it last planned \d+ s ago; a plan takes \d+ ms")
    expect(asking.page.locator("#verdict")).to_have_text(sentence)
    asking.menu("Health")
    expect(asking.page.locator("#verdict")).to_have_text(sentence)
    expect(asking.page.locator("#checks")).to_contain_text("Devices promised twice")


def test_weights_are_moved_by_hand_and_the_link_says_no_more_than_what_was_moved(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/whatif?weight.research=4")
    page.get_by_label("Weight of research").fill("2")
    page.get_by_label("Weight of batch").fill("5")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**/whatif?weight.batch=5")
    expect(page.locator("tr", has_text="batch").first).to_contain_text("1 → 5")
    page.go_back()
    expect(page.get_by_label("Weight of batch")).to_be_enabled()
    context.close()


def test_a_decision_opens_with_its_numbers_rule_and_candidates(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/decisions?kind=Admit")
    row = page.locator("main .data tbody tr").first
    job = row.locator("a.job").inner_text()
    row.locator("th a").click()
    expect(page.locator("h1")).to_have_text(f"Admit {job}")
    numbers = page.locator("section", has_text="Numbers").last
    expect(numbers).to_contain_text("charged")
    expect(page.locator("section", has_text="Rule").last).to_contain_text("lowest start tag")
    expect(page.locator("tr.chosen")).to_contain_text(job)
    context.close()


def test_a_click_on_a_cell_keeps_the_rows_that_say_the_same(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/jobs?view=all")
    page.get_by_title("Only FineTuning").first.click()
    page.wait_for_url("**type=FineTuning")
    column = page.locator("main .data tbody td:nth-child(3)")
    assert set(column.all_inner_texts()) == {"FineTuning"}
    # The same from the keyboard: the menu of filters takes it away again.
    page.locator("#filter summary").focus()
    page.keyboard.press("Enter")
    page.locator(".facets").get_by_role("link", name="FineTuning").press("Enter")
    page.wait_for_url("**/jobs?view=all")
    assert len(set(column.all_inner_texts())) > 1
    context.close()
