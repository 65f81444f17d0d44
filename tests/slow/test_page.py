"""The page of a served run in a real browser."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

import pytest

from tests.server import Server
from tests.slow.conftest import HOSTILE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(page_run):
    with Server(page_run) as started:
        yield started


@pytest.fixture(params=SIZES)
def page(browser, server, request):
    """The page at two sizes; whatever it asked for came from the server, and nothing was reported."""
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    requests, reports = [], []
    page.on("request", lambda one: requests.append(one.url))
    page.on("console", lambda one: reports.append(one.text))
    page.on("pageerror", lambda one: reports.append(str(one)))
    page.goto(f"{server.url}/")
    playwright.expect(page.locator("#state")).to_contain_text("items")
    yield page
    own = urlsplit(server.url).netloc
    assert len(requests) > 4 and {urlsplit(url).netloc for url in requests if not url.startswith("data:")} == {own}
    assert not [text for text in reports if "status of 400" not in text], reports
    assert page.evaluate("window.marked") is None
    page.close()


def choose(page, words):
    """Search and click the first item."""
    page.get_by_label("Find an item").fill(words)
    page.locator("#found button").first.click()


def names(page):
    return page.locator("#answers h3").all_inner_texts()


def test_a_history_is_put_together_and_answered_by_all_that_can(page):
    playwright.expect(page).to_have_title("RecFound on page")
    playwright.expect(page.locator("#state")).to_have_text("120 items")
    playwright.expect(page.locator("#empty")).to_be_visible()
    choose(page, "fargo")
    playwright.expect(page.locator("#history li")).to_have_count(1)
    playwright.expect(page.locator("#history")).to_contain_text("Fargo")
    playwright.expect(page.locator("#empty")).to_be_hidden()
    choose(page, "taxi DRIVER")
    playwright.expect(page.locator("#answers h3")).to_have_text(["RecFound", "EASE", "Pop", "SASRec"])
    for card in page.locator("#answers .card").all():
        lines = card.locator("li")
        playwright.expect(lines).to_have_count(10)
        for line in lines.all():
            title, score = line.locator(".item").inner_text(), line.locator(".end").inner_text()
            assert title.strip() and "Fargo" not in title and float(score) == float(score)
        scores = [float(text) for text in card.locator(".end").all_inner_texts()]
        assert scores == sorted(scores, reverse=True)
    playwright.expect(page.locator("#notes p")).to_have_count(1)
    playwright.expect(page.locator("#notes")).to_contain_text("BPR does not answer: history: BPR reads no histories")
    # A recommended item is added by a click, and one of the history is taken out.
    page.locator("#answers button").first.click()
    playwright.expect(page.locator("#history li")).to_have_count(3)
    page.locator("#history button").first.click()
    playwright.expect(page.locator("#history li")).to_have_count(2)
    playwright.expect(page.locator("#history")).not_to_contain_text("Fargo")
    page.get_by_role("button", name="Clear").click()
    playwright.expect(page.locator("#history li")).to_have_count(0)
    playwright.expect(page.locator("#answers .card")).to_have_count(0)
    playwright.expect(page.locator("#notes p")).to_have_count(0)
    # Nothing lies beside the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_search_without_a_result_says_so(page):
    page.get_by_label("Find an item").fill("nosuchword")
    playwright.expect(page.locator("#found")).to_have_text("no item has these words")


@pytest.mark.parametrize("token", HOSTILE)
def test_a_hostile_title_stays_text(page, token):
    choose(page, HOSTILE[token])
    playwright.expect(page.locator("#history .item")).to_contain_text(HOSTILE[token])
    page.get_by_label("Find an item").fill(HOSTILE[token])
    playwright.expect(page.locator("#found li")).to_have_count(1)
    assert page.locator("main img, main svg, main script").count() == 0


def test_an_added_item_is_found_and_recommended(page, server):
    width = page.viewport_size["width"]
    token, title = f"new-{width}", f"<b onclick=window.marked=4>Grand</b> Day {width}"
    before = int(page.locator("#state").inner_text().split()[0])
    page.get_by_text("Add an item to the catalogue").click()
    page.get_by_label("item id").fill(token)
    page.get_by_label("movie title").fill(title)
    page.get_by_role("button", name="Add", exact=True).click()
    playwright.expect(page.locator("#added")).to_have_text(f"added {token}")
    playwright.expect(page.locator("#state")).to_have_text(f"{before + 1} items")
    page.get_by_label("Find an item").fill(f"grand day {width}")
    playwright.expect(page.locator("#found .item")).to_have_text([title])
    answer = page.request.post(f"{server.url}/recommend", data={"history": ["10"], "k": 1000}).json()["items"]
    assert token in [one["item"] for one in answer]
    # A second time it is refused, in words.
    page.get_by_label("item id").fill(token)
    page.get_by_role("button", name="Add", exact=True).click()
    playwright.expect(page.get_by_role("alert")).to_contain_text("is known already")
    choose(page, f"grand day {width}")
    playwright.expect(page.get_by_role("alert")).to_be_hidden()
    playwright.expect(page.locator("#notes")).to_contain_text(f"EASE does not answer: item_id: unknown token '{token}'")
    assert names(page) == ["RecFound"]


def test_the_key(browser, page_run):
    with Server(page_run, RECFOUND_API_KEY="secret") as server:
        page = browser.new_page()
        page.goto(f"{server.url}/")
        alert, cards = page.get_by_role("alert"), page.locator("#answers .card")
        playwright.expect(alert).to_contain_text("a wrong key, or none, in the header X-API-Key")
        for key, right in (("wrong", False), ("sécret", False), ("secret", True)):
            page.get_by_label("API key").fill(key)
            page.get_by_label("API key").press("Enter")
            playwright.expect(cards).to_have_count(0)
            playwright.expect(alert).to_be_visible(visible=not right)
        choose(page, "fargo")
        playwright.expect(page.locator("#history li")).to_have_count(1)
        playwright.expect(cards).to_have_count(4)
        page.close()


def test_the_list_of_operations(page, server):
    page.get_by_role("link", name="operations").click()
    playwright.expect(page.locator("h2")).to_have_count(5)
    page.get_by_role("link", name="Try the run").click()
    playwright.expect(page.locator("#state")).to_contain_text("items")
