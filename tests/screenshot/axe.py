#!/usr/bin/env python3
"""Checks pages with axe-core in headless Chromium: light and dark, wide and at 380 pixels. `axe.py CHROMIUM URL…`

A finding fails, whatever its impact, and so does a page that is wider than its window. Afterwards each page gets two
mistakes, which must be found: a check that finds nothing proves nothing otherwise.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "chart")]
import tools

AXE = "4.14.1"
SCHEMES = {"light": "#aaa", "dark": "#555"}
WIDTHS = (1100, 380)
# A text whose colour is too close to its background, and a picture without a text.
PLANTED = "document.querySelector('header .soft').style.color = '%s'; document.querySelector('main').append(new Image())"
FOUND_IN_PLANTED = {"color-contrast", "image-alt"}
# A script that answers with the findings in a page, the number of rules that hold, and how wide it is.
RUN = """axe.run(document).then(found => JSON.stringify({
    width: document.documentElement.scrollWidth,
    findings: found.violations.map(one => [one.id, one.impact, one.help, one.nodes.map(node => node.html)]),
    passes: found.passes.length,
}))"""


class Browser:
    """A headless Chromium, by the Chrome DevTools Protocol over pipes: messages are JSON, each ends with a NUL."""

    def __init__(self, program, profile):
        theirs, ours = os.pipe()
        answers, their_answers = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]  # fmt: skip
        # It reads from descriptor 3 and writes to 4. Ours may have these numbers too.
        script = f'exec {{in}}<&{theirs} {{out}}>&{their_answers}; exec "$@" 3<&$in 4>&$out'
        with open(f"{profile}.log", "w") as log:
            self.process = subprocess.Popen(["bash", "-c", script, "bash", program, *flags], pass_fds=(theirs, their_answers), stdout=log, stderr=log)
        os.close(theirs), os.close(their_answers)
        self.requests, self.answers = os.fdopen(ours, "wb"), os.fdopen(answers, "rb")
        self.number, self.session, self.buffer, self.is_loaded = 0, None, b"", False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method, **params):
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        self.requests.write(json.dumps({"id": self.number, "method": method, "params": params} | session).encode() + b"\0")
        self.requests.flush()
        answer = self.wait(lambda message: message.get("id") == self.number)
        if "error" in answer:
            sys.exit(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, wanted):
        while True:
            while b"\0" not in self.buffer:
                more = self.answers.read1(1 << 20)
                if not more:
                    sys.exit("Chromium ended")
                self.buffer += more
            message, self.buffer = self.buffer.split(b"\0", 1)
            message = json.loads(message)
            self.is_loaded |= message.get("method") == "Page.loadEventFired"
            if wanted(message):
                return message

    def open(self, url, scheme, width):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.is_loaded = False
        if error := self.call("Page.navigate", url=url).get("errorText"):
            sys.exit(f"{url}: {error}")
        # The event may come before the answer.
        if not self.is_loaded:
            self.wait(lambda _: self.is_loaded)

    def run(self, script):
        ran = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in ran:
            sys.exit(f"axe: {ran['exceptionDetails']}")
        return ran["result"].get("value")

    def end(self):
        self.process.terminate()
        self.process.wait(20)


def main():
    program, *urls = sys.argv[1:]
    axe = tools.npm_file("axe-core", AXE, "axe.min.js")
    if not axe:
        return
    check = tools.Checks()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        browser = Browser(program, f"{work}/profile")
        try:
            for url in urls:
                for scheme, near in SCHEMES.items():
                    for width in WIDTHS:
                        page = f"{url.rsplit('/', 1)[-1] or 'demo'}, {scheme}, {width} pixels"
                        browser.open(url, scheme, width)
                        browser.run(axe.read_text() + ";0")
                        found = json.loads(browser.run(RUN))
                        check(f"{page}: {found['passes']} rules of axe hold", found["passes"] > 15 and not found["findings"], *found["findings"])
                        check(f"{page}: not wider", found["width"] <= width, found["width"])
                        browser.run(PLANTED % near + ";0")
                        findings = {finding[0] for finding in json.loads(browser.run(RUN))["findings"]}
                        check(f"{page}: planted mistakes are found", FOUND_IN_PLANTED <= findings, findings)
        finally:
            browser.end()
    check.end()


if __name__ == "__main__":
    main()
