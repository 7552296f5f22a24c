"""Draws dashboards with Grafana's own libraries: a page with what Prometheus answered, which Chromium draws by grafana.jsx."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tools import npm_packages, packages

# @grafana/ui and @grafana/data of the oldest version that the dashboards need, and what they use.
PACKAGES = Path(__file__).with_name("packages.txt")
PILLOW = "pillow==11.1.0"
WIDTH, ROW = 1800, 38
NOTE = "Drawn by Grafana's libraries from the queries of the dashboard, over simulated data."
PAGE = """<!DOCTYPE html><meta charset="utf-8"><link rel="stylesheet" href="grafana.css">
<style>body { margin: 14px; width: %(width)dpx } .no-data { padding: 8px }</style><div id="dashboard"></div>
<script>window.DRAWN = %(drawn)s</script><script src="grafana.js"></script>"""


def bundle(folder):
    """Compiles the program of the page into the folder, and copies Grafana's icons. False if the packages cannot be had."""
    installed = npm_packages(PACKAGES)
    if not installed:
        return False
    command = ["node", PACKAGES.with_name("bundle.cjs"), folder / "grafana.js"]
    subprocess.run(command, check=True, env=os.environ | {"NODE_PATH": str(installed)})
    shutil.copytree(installed / "@grafana/ui/dist/public", folder / "public")
    return True


def draw(dashboard, send, values, span, folder, browser):
    """`send(panel, target)` answers a query. Returns the picture, and what is wrong with each panel and the page."""
    answers = [[send(panel, target) for target in panel.get("targets", [])] for panel in dashboard["panels"]]
    # A text of the data must not end the script.
    drawn = json.dumps({"dashboard": dashboard, "answers": answers, "values": values, "span": span, "note": NOTE, "width": WIDTH, "row": ROW}).replace("</", "<\\/")
    page = folder / f"{dashboard['uid']}.html"
    page.write_text(PAGE % {"width": WIDTH, "drawn": drawn})
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * ROW
    picture = folder / f"{dashboard['uid'].removeprefix('teams-pstn-')}.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={folder}/profile", f"--window-size={WIDTH + 28},{bottom + 100}",
               "--virtual-time-budget=20000", f"--screenshot={picture}", "--dump-dom", page.as_uri()]  # fmt: skip
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
    examined = re.search(r'<script type="application/json" id="examined">(.*?)</script>', ran.stdout, re.S)
    found = json.loads(examined[1]) if examined else {"panels": [], "faults": ["nothing was drawn"]}
    found["faults"] += [line for line in ran.stderr.splitlines() if ":CONSOLE" in line]
    return picture, found


def shrink(picture, target):
    """Copies a picture with 256 colours instead of some thousands."""
    installed = packages(PILLOW)
    if installed:
        code = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=0).save(sys.argv[2], optimize=True)"
        subprocess.run(["python3", "-c", code, picture, target], check=True, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed)})
