"""Takes the documentation's pictures of the page, with a headless Chromium.

    python scripts/page_pictures.py

Writes PNG files to docs/pictures. Run the script after each change of the page
(examples/server) or of the models that it shows.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from browser import Browser, find_chromium  # noqa: E402
from running import running_server  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
STORY, RUN = "main > section:nth-child(1)", "main > section:nth-child(2)"
SERVER = (str(ROOT / "saved_models" / "copy_ntm"), "--page", "--compiled-steps", "0")


def choose(browser, selector, value):
    """Chooses an option as a reader does."""
    browser.evaluate(
        f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector('{selector}'))"
    )


def main():
    if find_chromium() is None:
        raise SystemExit("error: the pictures need Chromium: apt-get install chromium")
    with running_server(*SERVER) as url, Browser() as browser:
        browser.open(url)
        browser.wait_for("!!document.querySelector('#runs select')?.value")
        browser.click("#stories button")
        browser.wait_for("!document.querySelector('#answer').hidden")
        browser.picture(STORY, PICTURES / "page_story.png")
        for model, picture in {
            "copy_dnc": "page_copy.png",
            "traversal_sdnc": "page_traversal.png",
        }.items():
            choose(browser, "#runs select", model)
            browser.click("#runs button")
            browser.wait_for(
                "!document.querySelector('#run').hidden && "
                "!document.querySelector('#runs button').disabled"
            )
            browser.picture(RUN, PICTURES / picture)


if __name__ == "__main__":
    main()
