"""Every page in a real browser: both themes, three widths, keyboard, accessibility, a server that is gone.

The cluster behind is a constructed one; what the API server has to say about visitors is in test_access.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.console.browsing import PATIENCE, Site, needs_chromium
from tests.console.serving import Listening, Served

pytestmark = needs_chromium
PATHS = (
    *(
        "/",
        "/jobs",
        "/jobs?view=all&group=queue&q=e",
        "/queues",
        "/queues/students",
        "/gpus",
        "/gpus?colour=use",
    ),
    *("/forecast", "/decisions", "/whatif", "/whatif?weight.training=9", "/reports?from=30d", "/health"),
)


#: One of each kind, with few rows: rules of accessibility are slow to check.
EACH = (
    *("/", "/jobs?group=queue&q=serve", "/queues", "/queues/students", "/gpus?q=h200-1", "/forecast?q=chat"),
    *("/decisions?kind=Deny", "/whatif?without=h100-0", "/reports", "/health"),
)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_fit_for_everybody(quiet: Site, theme: str) -> None:
    context = quiet.context(color_scheme=theme, viewport={"width": 1360, "height": 900})
    page, axe = quiet.page(context), Axe()
    # All rules once; of the other theme only the one that colours decide.
    rules = {} if theme == "light" else {"runOnly": ["color-contrast"]}
    for path in (*EACH, quiet.job(holds=True), quiet.job(holds=False), quiet.decision("Admit")):
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        found = [
            f"{path} {v['id']}: {[node['html'][:120] for node in v['nodes']][:3]}"
            for v in axe.run(page, options=rules).response["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert found == []
    context.close()


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_no_page_is_wider_than_the_window(quiet: Site, width: int) -> None:
    context = quiet.context(viewport={"width": width, "height": 800})
    page = quiet.page(context)
    for path in (*PATHS, quiet.job(holds=True), quiet.job(holds=False), quiet.decision("Preempt")):
        page.goto(path)
        over = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{path} is {over} pixels too wide at {width}"
    context.close()


def test_the_columns_of_tables_fit_a_common_window(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    for path in (
        "/jobs",
        "/jobs?view=all",
        "/queues",
        "/gpus",
        "/forecast",
        "/decisions",
        "/reports?by=user",
    ):
        page.goto(path)
        over = page.locator(".scroll:has(.data)").evaluate("e => e.scrollWidth - e.clientWidth")
        assert over <= 0, f"the table of {path} is {over} pixels too wide"
    context.close()


def test_the_label_of_a_figure_leads_where_the_number_does(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/")
    label = page.locator("#figures dt", has_text="GPUs waited for").bounding_box()
    assert label is not None
    page.mouse.click(label["x"] + 10, label["y"] + label["height"] / 2)
    page.wait_for_url("**/jobs?view=waiting")
    context.close()


def test_a_walk_with_the_keyboard_alone(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs")
    page.keyboard.press("/")
    expect(page.locator("input[type=search]")).to_be_focused()
    page.keyboard.type("serve g j")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs?q=serve")
    rows = page.locator(".data tbody tr")
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    expect(rows.nth(1)).to_have_class("at")
    name = rows.nth(1).locator("th").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(name)
    page.keyboard.press("y")
    expect(page.locator("#yaml pre")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    page.go_back()
    page.wait_for_url("**/jobs?q=serve")
    context.close()


def test_focus_can_be_seen_wherever_it_goes(quiet: Site) -> None:
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/queues")
    for _ in range(40):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "() => { const e = document.activeElement; if (e === document.body) return 'body';"
            " const s = getComputedStyle(e); return s.outlineStyle !== 'none' || e.matches('.skip'); }"
        )
        assert seen in (True, "body"), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    context.close()


def test_a_change_arrives_without_reloading_and_leaves_what_the_reader_did(quiet: Site) -> None:
    cluster = quiet.served.cluster
    context = quiet.context(viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/jobs?view=all")
    page.evaluate("window.mark = 'same page'")
    page.locator("#columns summary").click()
    row = page.locator(".data tbody tr", has_text="/").first
    name = str(row.get_attribute("data-id"))
    page.mouse.move(700, 20)

    def change() -> None:
        namespace, _, job = name.partition("/")
        found = cluster.world.jobs.get(namespace, job)
        assert found is not None
        cluster.world.jobs.forget(namespace, job, found.uid)
        quiet.served.show()

    quiet.listening.call(change)
    expect(page.locator(f'tr[data-id="{name}"]')).to_have_count(0, timeout=PATIENCE)
    assert page.evaluate("window.mark") == "same page"
    assert page.locator("#columns").get_attribute("open") is not None
    context.close()


def test_a_server_that_is_gone_is_named_and_the_last_picture_stays(site: Site) -> None:
    served = Served(site.served.cluster)
    context = site.browser.new_context()
    page = context.new_page()
    with Listening(served.application()) as first:
        page.goto(f"{first.url}/jobs")
        rows = page.locator(".data tbody tr").count()
        # The stream of changes is there.
        eventually(lambda: served.stage.listeners > 0, page)
    lost = page.locator("#lost")
    expect(lost).to_contain_text("does not answer", timeout=PATIENCE)
    assert page.locator(".data tbody tr").count() == rows > 0
    with Listening(Served(site.served.cluster).application(), first.port):
        expect(lost).to_have_count(0, timeout=PATIENCE)
        expect(page.locator(".pulse.lost")).to_have_count(0, timeout=PATIENCE)
        assert page.locator(".data tbody tr").count() == rows
        context.close()


def eventually(check: Callable[[], bool], page: Page) -> None:
    for _ in range(300):
        if check():
            return
        page.wait_for_timeout(100)
    raise AssertionError("not within 30 s")


def test_the_theme_is_kept_and_stronger_than_the_systems(quiet: Site) -> None:
    context = quiet.context(color_scheme="light", viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/health")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    page.wait_for_load_state()
    dark = page.evaluate(background)
    assert dark != light and page.url.endswith("/health")
    page.goto("/gpus")
    assert page.evaluate(background) == dark
    page.get_by_role("button", name="System").click()
    page.wait_for_load_state()
    assert page.evaluate(background) == light
    context.close()


def test_times_are_shown_in_the_readers_zone_when_asked(quiet: Site) -> None:
    context = quiet.context(timezone_id="Asia/Tokyo", viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/decisions")
    first = page.locator(".data tbody time").first
    before = first.inner_text()
    page.locator(".zone-switch").click()
    expect(page.locator(".zone-switch")).to_have_text("Local time")
    hour = int(before[-5:-3])
    assert f"{(hour + 9) % 24:02}:" in first.inner_text()
    context.close()


def test_everything_can_be_read_and_asked_without_scripts(quiet: Site) -> None:
    context = quiet.context(java_script_enabled=False, viewport={"width": 1360, "height": 900})
    page = quiet.page(context)
    page.goto("/jobs")
    page.get_by_role("link", name="GPUs", exact=True).last.click()
    page.wait_for_url("**/jobs?sort=-gpus")
    page.locator("input[type=search]").fill("serve")
    page.locator("input[type=search]").press("Enter")
    page.wait_for_url("**q=serve")
    page.locator("#columns summary").click()
    page.get_by_label("User").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("thead a", has_text="User")).to_be_visible()
    page.goto("/whatif")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer h3")).to_be_visible()
    context.close()
