"""A real Chromium that does one job after another for a test, run by its own environment's Python from the checkout.

It is told the browser's path; then each line of its input is JSON: a job's name, the console's address, the state of a
browser, and what the job needs. It answers each with a line: what came of it, the state, and what the browser has
complained of: errors, refused scripts and styles, and a script that ran where none may.
"""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from tests.browser import documentation_clicks, job_clicks, looking

#: On a loaded machine.
STEP_MS: Final = 90_000
Told = dict[str, Any]
JOBS: Final[dict[str, Callable[[Page, Told], Told]]] = {
    job.__name__: job for module in (documentation_clicks, job_clicks, looking) for job in module.JOBS
}


def main(executable: str) -> None:
    """Do jobs until there are no more."""
    with sync_playwright() as playwright:
        # A container's root has no sandbox.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for line in sys.stdin:
            sys.stdout.write(json.dumps(_do(browser, json.loads(line))) + "\n")
            sys.stdout.flush()
        browser.close()


def _do(browser: Browser, told: Told) -> Told:
    complaints: list[str] = []
    context = browser.new_context(
        storage_state=told["state"], base_url=told["base"], java_script_enabled=told["scripts"]
    )
    context.set_default_timeout(STEP_MS)
    _listen(context, complaints)
    page = context.new_page()
    try:
        said = JOBS[told["job"]](page, told)
        return {"said": said, "state": context.storage_state(), "complaints": complaints}
    except Exception:  # noqa: BLE001 - the test fails with it
        return {"failure": f"{page.url}\n{traceback.format_exc()}\n{complaints}"}
    finally:
        context.close()


def _listen(context: BrowserContext, complaints: list[str]) -> None:
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))

    def dismiss(dialog: Dialog) -> None:
        complaints.append("a script ran")
        dialog.dismiss()

    context.on("dialog", dismiss)


if __name__ == "__main__":
    main(sys.argv[1])
