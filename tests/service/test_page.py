import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import url_contains
from selenium.webdriver.support.ui import WebDriverWait

from tests.serving_process import TOKEN, RunningService

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()),
    reason="no Chromium with its driver is installed",
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Page:
    """The search page in a real browser."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, path: str = "/") -> None:
        self.browser.get(self.address + path)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def until(self, condition: Callable[[], Any], seconds: float = 15) -> Any:
        return WebDriverWait(self.browser, seconds, 0.05).until(lambda _: condition())

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def cards(self) -> list[WebElement]:
        return self.all(".card[data-index]")

    def focused_card(self) -> str | None:
        return self.script("return document.activeElement.dataset.index ?? null")

    def shown(self) -> bool:
        """Whether results stand there and all pictures in view have come."""
        return bool(
            self.script(
                "const cards = [...document.querySelectorAll('.card[data-index] img')]"
                ".filter(i => i.getBoundingClientRect().top < innerHeight);"
                "return cards.length > 0 && cards.every(i => i.complete && i.naturalWidth > 0)"
                " && document.querySelector('#results').ariaBusy === 'false'"
            )
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in [*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        os.environ["SE_OFFLINE"] = "true"
        browser = webdriver.Chrome(options, Driver(str(CHROMEDRIVER)))
        yield browser
        browser.quit()


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, service: RunningService) -> Page:
    """The page, by somebody who has given the token once, in its form."""
    page = Page(browser, service.address)
    page.open()
    page.until(lambda: page.one("#failure h2").text == "Access token needed")
    page.one("#token").send_keys(TOKEN, Keys.ENTER)
    page.until(lambda: "images" in page.one("#count").text)
    browser.get_log("browser")
    return page


def test_a_typed_query_shows_pictures(page: Page) -> None:
    page.open()
    page.until(lambda: page.one("#welcome").is_displayed())
    assert page.one("h1").is_displayed()
    page.one("#query").send_keys("orange ball")
    page.until(page.shown)
    assert "images in" in page.one("#notice").text
    first = page.cards()[0]
    assert first.find_element(By.CSS_SELECTOR, ".caption").text
    assert float(first.find_element(By.CSS_SELECTOR, ".number").text) <= 1
    assert page.browser.current_url.endswith("?q=orange+ball")
    for image in page.all(".card img")[:8]:  # nothing is cropped or squeezed
        natural, shown = page.script(
            "const i = arguments[0]; return [i.naturalWidth / i.naturalHeight,"
            " i.clientWidth / i.clientHeight]",
            image,
        )
        assert shown == pytest.approx(natural, rel=0.03)


def test_an_example_starts_a_search_and_back_returns(page: Page) -> None:
    page.open()
    page.until(lambda: page.one("#examples a").is_displayed())
    page.one("#examples a").click()
    page.until(page.shown)
    assert "?q=orange+juice" in page.browser.current_url
    page.browser.back()
    page.until(lambda: page.one("#welcome").is_displayed())
    assert page.one("#query").get_property("value") == ""


def test_back_goes_through_what_was_searched_for_and_nothing_twice(page: Page) -> None:
    def asked(text: str) -> bool:
        return bool(page.one("#query").get_property("value") == text)

    page.open()
    for text in ("red", "blue"):
        page.one("#query").clear()
        for part in (text, " ball"):  # two pauses of somebody who types
            page.one("#query").send_keys(part)
            WebDriverWait(page.browser, 15).until(url_contains(part.strip()))
            page.until(page.shown)
        page.one("#query").send_keys(Keys.ENTER)
        page.until(page.shown)
    page.browser.back()
    page.until(lambda: asked("red ball"))
    page.browser.back()
    page.until(lambda: asked(""))
    assert page.one("#welcome").is_displayed()


def test_why_shows_shares_that_add_up_and_a_heat_map(page: Page) -> None:
    page.open("/?q=orange+ball+-box")
    page.until(page.shown)
    page.script("arguments[0].querySelector('.why').click()", page.cards()[0])
    page.until(lambda: len(page.all("#why .shares button")) == 3)
    amounts = [
        float(share.text.replace("−", "-").replace("+", "")) for share in page.all("#why .amount")
    ]
    assert sum(amounts) == pytest.approx(float(page.one("#why .total b").text), abs=0.002)
    assert amounts == sorted(amounts, reverse=True)

    def painted() -> int:
        return page.script(
            "const c = document.querySelector('.stage canvas');"
            "return c.width && [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
            ".filter((v, i) => i % 4 === 3 && v > 0).length"
        )

    page.until(painted)
    whole = page.script("return document.querySelector('.stage canvas').toDataURL()")
    page.all("#why .shares button")[1].click()
    other = page.script("return document.querySelector('.stage canvas').toDataURL()")
    assert other != whole
    page.one("#heat").click()
    page.until(lambda: page.one(".stage canvas").value_of_css_property("opacity") == "0")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.one("#why").is_displayed())


def test_keyboard_alone(page: Page) -> None:
    page.open("/?q=ball")
    page.until(page.shown)
    page.press(Keys.ESCAPE)
    page.script("document.activeElement.blur()")
    page.one("body").send_keys("/")
    assert page.script("return document.activeElement.id") == "query"
    page.press(Keys.ARROW_DOWN)
    assert page.focused_card() == "0"
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.focused_card() == "1"
    page.press(Keys.ARROW_DOWN)
    below = int(page.focused_card() or 0)
    assert below > 1
    page.press(Keys.ENTER)
    page.until(lambda: page.one("#why").is_displayed())
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.one("#why").is_displayed())
    page.until(lambda: page.focused_card() == str(below + 1))
    page.press("m")
    page.until(lambda: "like=" in page.browser.current_url)
    page.until(page.shown)
    assert page.one("#chip").is_displayed()


def test_more_like_this_combines_with_words_and_can_be_shared(page: Page) -> None:
    page.open("/?q=red&like=7.jpg")
    page.until(page.shown)
    assert page.one("#chip").is_displayed()
    page.one("#chip button").click()
    page.until(lambda: "like=" not in page.browser.current_url)
    page.until(page.shown)
    assert not page.one("#chip").is_displayed()


def test_an_image_of_ones_own(page: Page, service: RunningService) -> None:
    page.open()
    page.one("#upload").send_keys(str(service.directory / "images" / "7.jpg"))
    page.until(page.shown)
    page.until(lambda: page.one(".card .number").text == "1.00")
    page.one("#query").send_keys("red")
    page.until(lambda: page.browser.current_url.endswith("?q=red"))
    page.until(page.shown)
    page.cards()[0].click()
    page.until(lambda: page.one("#why .shares").text.startswith("your image and the words"))


@pytest.mark.parametrize(
    "event",
    [
        "new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true})",
        "new ClipboardEvent('paste', {clipboardData: held, bubbles: true, cancelable: true})",
    ],
)
def test_an_image_that_is_dropped_or_pasted(page: Page, event: str) -> None:
    page.open("/?q=ball")
    page.until(page.shown)
    page.script(
        "const held = new DataTransfer();"
        "const canvas = Object.assign(document.createElement('canvas'), {width: 9, height: 9});"
        "canvas.getContext('2d').fillRect(0, 0, 9, 9);"
        "canvas.toBlob(blob => { held.items.add(new File([blob], 'x.png', {type: blob.type}));"
        f"document.body.dispatchEvent({event}) }})"
    )
    page.until(lambda: page.one("#chip").is_displayed())
    page.until(page.shown)


def test_an_image_that_is_too_large_is_not_sent(page: Page, tmp_path: Path) -> None:
    page.open()
    page.until(lambda: "images" in page.one("#count").text)
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(60_000_000)
    page.one("#upload").send_keys(file.name)
    page.until(lambda: page.one("#failure h2").text == "This image is too large")
    assert "60.0 MB" in page.one("#failure p").text
    assert "20.0 MB" in page.one("#failure p").text


def test_the_file_of_a_hit_is_named_also_where_it_cannot_be_read(
    page: Page, service: RunningService
) -> None:
    page.open("/?like=9.jpg")
    page.until(page.shown)
    file = service.directory / "images" / "9.jpg"
    file.rename(file.with_suffix(".away"))
    try:
        page.cards()[0].click()
        page.until(lambda: "cannot be read" in page.one("#why .problem").text)
        assert page.one("#why .name").text == "9.jpg"
        assert page.one("#why .total").text.startswith("Score")
        assert not page.one("#why .toggle").is_displayed()
    finally:
        file.with_suffix(".away").rename(file)


@pytest.mark.parametrize(
    ("path", "heading", "text"),
    [
        ("/?q=dog+%22ball", "This query does not parse", "never closed"),
        ("/?q=qxzvw", "Nothing to look for", "qxzvw"),
        (f"/?q={'qxzvw' * 100}", "Nothing to look for", "qxzvw"),
        ("/?like=none", "No such image", "none"),
        ("/?q=%3Cscript%3Ealert(1)%3C/script%3E%22", "This query does not parse", "inside a word"),
    ],
)
def test_errors_are_told(page: Page, path: str, heading: str, text: str) -> None:
    page.open(path)
    page.until(lambda: page.one("#failure").is_displayed())
    assert page.one("#failure h2").text == heading
    assert text in page.one("#failure p").text
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    if "parse" in heading:
        assert page.one("#failure mark").text == '"'


def test_unknown_words_are_told(page: Page) -> None:
    page.open("/?q=ball+qxzvw")
    page.until(page.shown)
    assert page.one("#notice b").text == "qxzvw"


def test_a_suggestion_can_be_reached_on_a_phone(page: Page) -> None:
    tools: Any = page.browser
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    tools.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.open("/?q=ball+qxzvw+kitchenware+bycicle")
        page.until(page.shown)
        link = page.script(
            "const r = document.querySelector('#notice a').getBoundingClientRect();"
            "return [r.right, r.bottom, document.querySelector('header').offsetHeight]"
        )
        assert link[0] <= 390
        assert link[1] <= link[2]
    finally:
        tools.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_phone_and_desktop(page: Page, scheme: str, width: int) -> None:
    tools: Any = page.browser
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    tools.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    tools.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        page.open("/?q=orange+ball")
        page.until(page.shown)
        assert page.script("return document.documentElement.scrollWidth") <= width
        tops = {card.location["y"] for card in page.cards()[:6]}
        assert len(tops) < 6  # several in a row, on a phone too
        ground = page.script("return getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in ground.strip("rgb()").split(",")[:3]) > 380
        assert light == (scheme == "light")
        page.cards()[0].click()
        page.until(lambda: page.all("#why .shares button"))
        assert page.script("return document.querySelector('#why').scrollWidth") <= width
    finally:
        tools.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        tools.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_is_fetched_from_elsewhere_and_nothing_fails(page: Page) -> None:
    page.browser.get_log("browser")  # what earlier tests provoked
    page.open("/?q=orange+ball")
    page.until(page.shown)
    assert page.browser.get_log("browser") == []
    names = page.script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert names
    assert all(name.startswith(page.address) for name in names)
