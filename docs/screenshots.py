"""Takes the screenshots of this folder from a running service over the drawn sample.

python docs/screenshots.py http://127.0.0.1:8000
"""

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DOCS = Path(__file__).parent
WHY = "document.querySelector('.card .why').click()"
# name, address, width and height in CSS pixels, scheme, what is done first
SHOTS = [
    ("search-desktop", "/?q=boat+on+the+water", 1280, 800, "light", ""),
    ("search-dark", "/?q=orange+juice", 1280, 800, "dark", ""),
    ("search-why", "/?q=dog+on+the+beach", 1280, 800, "light", WHY),
    ("search-phone", "/?q=pizza", 390, 844, "light", ""),
    ("search-phone-why", "/?q=red+truck", 390, 844, "dark", WHY),
]


def main() -> None:
    """Take every screenshot."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={profile}")
        browser: Any = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
        try:
            for name, path, width, height, scheme, action in SHOTS:
                size = {"width": width, "height": height, "mobile": width < 500}
                size["deviceScaleFactor"] = 2 if width < 500 else 1
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                browser.get(sys.argv[1] + path)
                time.sleep(3)
                browser.execute_script(action)
                time.sleep(3)
                shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
                shot.save(DOCS / f"{name}.jpg", quality=86, optimize=True)
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
