#!/usr/bin/env python3
"""Opens reports in headless Chromium: what they draw, what they say on the console, what they ask a network for.

    tests/page/check.py --foretrain build/release/foretrain [--keep FOLDER]

--keep leaves the pages and pictures of them (light, dark, narrow, printed) in FOLDER, to look at. Exit status: 0 all is well,
1 not so, 77 there is no Chromium (Debian's package chromium) or it does not start here.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

MOST_BYTES = 2_000_000  # of a page of 64 ranks
SKIPPED = 77
# What was loaded beside the page itself.
PROBE = """<script>
addEventListener('load', () => {
  document.body.append(Object.assign(document.createElement('i'), { id: 'loaded-' + performance.getEntriesByType('resource').length }));
});
</script>"""


class Page(HTMLParser):
    """Ids, and how many elements of each kind stand in the section of an id."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.counts, self.section = set(), {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if tag == "section":
            self.section = attributes.get("id")
        key = (self.section, tag)
        self.counts[key] = self.counts.get(key, 0) + 1

    def handle_endtag(self, tag):
        if tag == "section":
            self.section = None

    def count(self, section, tag):
        return self.counts.get((section, tag), 0)


class Browser:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, page, *options):
        command = [self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
                   f"--user-data-dir={self.folder}/profile",
                   "--virtual-time-budget=3000", "--enable-logging=stderr", *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def dom(self, page):
        """The page after its scripts, and what it said on the console: there a load that its policy forbids is named too."""
        probed = Path(self.folder) / "probed.html"
        probed.write_text(page.read_text() + PROBE)
        ran = self.run(probed, "--dump-dom")
        return ran.stdout, re.findall(r"CONSOLE.*", ran.stderr)


def reports(foretrain, folder):
    """Name, path and sections of each page that is looked at."""
    def make(name, *words):
        path = folder / f"{name}.html"
        ran = subprocess.run([foretrain, "report", *words, "-o", str(path)], capture_output=True, text=True, check=False)
        if ran.returncode not in (0, 3):
            sys.exit(f"foretrain report {' '.join(words)}: {ran.stderr}")
        return path

    estimates = {}
    for tp, pp in ((8, 4), (4, 8), (8, 8)):
        words = ["llama3-70b-64-h100", f"tp={tp}", f"pp={pp}", f"dp={64 // tp // pp}", "--json"]
        ran = subprocess.run([foretrain, "estimate", *words], capture_output=True, text=True, check=False)
        estimates[tp, pp] = json.loads(ran.stdout)
    items = [{"job": e["resolved"], "estimate": e} for e in estimates.values()]
    items.sort(key=lambda item: item["estimate"]["step_time_s"])
    grid = [{"tp": tp, "pp": pp, "step_time_s": e["step_time_s"], "at_least_s": None, "fits": e["fits"], "reason": ""}
            for (tp, pp), e in estimates.items()]
    search = folder / "search.json"
    search.write_text(json.dumps({"schema": "foretrain.search/1", "best": items[0], "pareto": items, "grid": grid,
                                  "rejected": {"memory": 3}, "judged": 6, "simulated": 3,
                                  "bound": {"best_possible_step_time_s": 1.0, "proved_optimal": False}}))
    common = {"summary", "breakdown", "pipeline", "memory", "job"}
    yield "search", make("search", "llama3-70b-64-h100", "--search", str(search)), common | {"network", "search"}
    yield "unfolded", make("unfolded", "llama3-70b-64-h100", "--no-fold"), common | {"network"}
    yield "too-large", make("too-large", "gpt3-175b-1024-a100", "recompute=none", "pp=1", "dp=128"), common | {"network"}
    yield "one-rank", make("one-rank", "linear-regression", "system=this-machine"), common


def check(name, path, sections, browser):
    wrong = []
    if name == "unfolded" and path.stat().st_size > MOST_BYTES:
        wrong.append(f"{path.stat().st_size} bytes; expected at most {MOST_BYTES} for 64 ranks")
    text, said = browser.dom(path)
    page = Page(text)
    wrong += [f"the console says: {line}" for line in said]
    if "loaded-0" not in page.ids:
        wrong.append(f"the page loads something: {[i for i in page.ids if i.startswith('loaded')]}")
    wrong += [f"there is no section {s}" for s in sections if s not in page.ids]
    drawn = [("breakdown", "svg"), ("breakdown", "table"), ("pipeline", "canvas"), ("pipeline", "table"), ("memory", "path"),
             ("memory", "svg"), ("network", "line"), ("search", "circle")]
    wrong += [f"section {s} has no {tag}" for s, tag in drawn if s in sections and page.count(s, tag) == 0]
    return wrong


def pictures(name, path, browser, folder):
    for kind, size, options in (("light", "1280,4800", []), ("narrow", "400,6400", []),
                                ("dark", "1280,4800", ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"])):
        browser.run(path, f"--window-size={size}", f"--screenshot={folder}/{name}-{kind}.png", *options)
    browser.run(path, f"--print-to-pdf={folder}/{name}.pdf", "--no-pdf-header-footer")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foretrain", default="build/release/foretrain")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        print("skipped: no chromium here (apt-get install chromium)")
        return SKIPPED
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        browser = Browser(program, temporary)
        blank = Path(temporary) / "blank.html"
        blank.write_text("<p id='there'>here</p>")
        if "there" not in browser.dom(blank)[0]:
            print("skipped: chromium does not start here")
            return SKIPPED
        failed = 0
        for name, path, sections in reports(str(Path(arguments.foretrain).resolve()), folder):
            wrong = check(name, path, sections, browser)
            print(f"{name}: {path.stat().st_size} bytes, {len(sections)} sections: {'FAILED' if wrong else 'ok'}")
            for line in wrong:
                print(f"  {line}")
            failed += bool(wrong)
            if arguments.keep:
                pictures(name, path, browser, folder)
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
