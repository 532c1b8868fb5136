"""The page in a real browser, on a desk and on a phone: it loads, moves, fits, and the console stays empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateway.network_model import PROVIDERS, Network
from tests.gateway.served import PATIENCE_S

if TYPE_CHECKING:
    from tests.gateway.served import Site

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SPEC = {"name": "render", "runtime": "python", "commands": ["true"], "chunks": [{} for _ in range(12)]}
WIDTHS = [1280, 360]

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests here."""
    expect.set_options(timeout=PATIENCE_S * 1_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[[int], Page]]:
    """A signed-in page of a given width; its console has to stay empty."""
    said: list[str] = []
    contexts = []

    def opened(width: int) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(site.url) else None)
        page.goto(f"{site.url}/signin")
        page.fill("#token", site.token())
        page.click("button.primary")
        expect(page.locator("#wire-state")).to_have_text("live")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def submit(site: Site) -> str:
    """A confirmed job."""
    with site.client(site.token()) as client:
        job = str(client.post("/marketplace/jobs", json={"spec": SPEC}).json()["job"])
        client.post(f"/marketplace/jobs/{job}/confirm")
    return job


def is_too_wide(page: Page) -> bool:
    """Whether the page scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_overview_moves_by_itself(site: Site, open_page: Callable[[int], Page], width: int, tmp_path: Path) -> None:
    page = open_page(width)
    kind = "narrow" if width < 560 else "wide"
    expect(page.locator(f"svg.{kind} .spot")).to_have_count(6)
    assert page.locator(f"svg.{kind}").is_visible()
    job = submit(site)
    cells = page.locator(f"#row-{job} .cell")
    expect(cells).to_have_count(12)
    site.act(lambda network: network.work(job, 3, 2))
    expect(page.locator(f"#row-{job} .cell.accepted")).to_have_count(3)
    expect(page.locator(f"svg.{kind} .edge.active").first).to_be_attached()
    expect(page.locator(".events li").first).to_contain_text("chunk accepted")
    site.act(lambda network: network.see(2, "dead"))
    expect(page.locator(f"svg.{kind} .spot.dead")).to_have_count(1)
    site.act(lambda network: network.see(2, "alive"))
    assert not is_too_wide(page)
    shot = tmp_path / "overview.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 10_000


@pytest.mark.parametrize("width", WIDTHS)
def test_a_job_from_its_first_line_to_its_picture(
    site: Site, open_page: Callable[[int], Page], width: int, tmp_path: Path
) -> None:
    job = submit(site)
    page = open_page(width)
    page.goto(f"{site.url}/jobs/{job}")
    site.act(lambda network: network.say(job, "<script>alert('log')</script>", chunk=4))
    expect(page.locator("#log li .text")).to_have_text(["<script>alert('log')</script>"])
    picture = site.act(lambda network: network.picture)
    site.act(lambda network: network.settle(job, {"picture.png": picture, "weights.safetensors": b"x"}))
    expect(page.locator("h1 .badge")).to_have_text("settled")
    image = page.locator(".pictures img")
    expect(image).to_have_count(1)
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("naturalWidth", 320)  # A function that waits is forbidden by the page's policy.
    expect(page.locator("#log-state")).to_have_text("complete")
    expect(page.locator("#part-money")).to_contain_text("The lines add up to zero.")
    assert not is_too_wide(page)
    page.screenshot(path=tmp_path / "job.png", full_page=True)


def offer_hosts(network: Network, job: str) -> None:
    """Two peers could run the quoted job: one with a fast line, one that nobody should take."""
    quote = network.jobs[job].status["quote"]
    assert isinstance(quote, dict)
    words = "at most {} of work is lost if this host dies: 500 MB of state at {} are safe {} after each snapshot"
    quote["hosts"] = [
        {"peer": PROVIDERS[0], "chunk_price": 3_666, "uplink": 12_500_000, "worst_case_loss_s": 134.0,
         "is_exposed": False, "loss": words.format("3 min", "100 Mbit/s", "67 s")},
        {"peer": PROVIDERS[1], "chunk_price": 3_100, "uplink": 0, "worst_case_loss_s": 1334.0, "is_exposed": True,
         "loss": words.format("23 min", "10 Mbit/s (not measured yet)", "12 min")},
    ]  # fmt: skip
    network.wake()


def protect(network: Network, job: str) -> None:
    """One chunk is protected and was lost once, another is not protected, and says why."""
    network.work(job, 3, 2)
    network.jobs[job].status["quote"] = None
    chunks = network.jobs[job].status["chunks"]
    assert isinstance(chunks, list)
    chunks[3].update(
        state="running", step=1840, is_protected=True, snapshot_bytes=498_000_000, tier="framework",
        protection="protected", kept="kept by 3 peers in 3 failure domains, any 1 give it back: durable",
        lost_now_s=6.2, standby=PROVIDERS[2],
        recoveries=[{"epoch": 2, "reached": 1350, "step": 1320, "seconds": 6.42}],
    )  # fmt: skip
    chunks[4].update(
        state="running", protection="not protected: the loop in train.py, line 12, is an async for", lost_now_s=41.0
    )
    network.emit("chunk_changed", job=job)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_may_be_lost_is_said_before_and_while(
    site: Site, open_page: Callable[[int], Page], width: int, tmp_path: Path
) -> None:
    with site.client(site.token()) as client:
        job = str(client.post("/marketplace/jobs", json={"spec": SPEC}).json()["job"])
        site.act(lambda network: offer_hosts(network, job))
        hosts = client.get(f"/marketplace/jobs/{job}/quote").json()["hosts"]
        assert [host["is_exposed"] for host in hosts] == [False, True]
        page = open_page(width)
        page.goto(f"{site.url}/jobs/{job}")
        rows = page.locator("#part-hosts tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.nth(0)).to_contain_text("at most 3 min of work is lost")
        expect(rows.nth(1)).to_contain_text("more than 5 min")
        page.screenshot(path=tmp_path / "before.png", full_page=True)
        client.post(f"/marketplace/jobs/{job}/confirm")
    site.act(lambda network: protect(network, job))
    safe = page.locator("#part-chunks .safety tbody tr")
    expect(safe).to_have_count(2)
    expect(safe.nth(0)).to_contain_text("at most 7 s")
    expect(safe.nth(0)).to_contain_text("memory, 474.9 MiB")
    expect(safe.nth(1)).to_contain_text("async for")
    expect(page.locator("#part-chunks .note")).to_contain_text(
        "lost its host at step 1350 of its loop and went on at 1320, 7 s"
    )
    expect(page.locator("#part-hosts tr")).to_have_count(0)
    assert not is_too_wide(page)
    page.screenshot(path=tmp_path / "while.png", full_page=True)


def test_the_page_works_without_script_and_names_its_parts(site: Site, browser: Browser) -> None:
    job = submit(site)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    assert page.locator(f"#row-{job}").is_visible()
    missing = page.locator(
        "img:not([alt]), input:not([id]):not([hidden]):not([type=hidden]), table:not(:has(th[scope]))"
    )
    assert missing.count() == 0
    assert page.locator("h1").count() == 1 and page.locator("html[lang]").count() == 1
    context.close()


def test_the_browser_comes_back_after_the_node_was_away(site: Site, open_page: Callable[[int], Page]) -> None:
    page = open_page(1280)
    site.do(site.control.stop)
    expect(page.locator(".banner")).to_contain_text("The node does not answer")
    site.do(site.control.start)
    expect(page.locator(".banner")).to_have_count(0)


def test_the_log_lines_are_json_for_programs(site: Site) -> None:
    job = submit(site)
    site.act(lambda network: network.say(job, "héllo"))
    with site.client(site.token()) as client, client.stream("GET", f"/marketplace/jobs/{job}/logs") as answer:
        data = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["line"] == "héllo"
