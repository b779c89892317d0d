#!/usr/bin/env python3
"""Runs text tests: commands of foretrain and what they must print.

    tests/golden/run.py [--foretrain build/release/foretrain] [--update] [--brief] [FILE.test ...]

A test file is

    # what this shows, one or more lines
    @file job.json                      a file of the test: the lines up to @end
    {"version": 1}
    @end
    @file deep.json nesting 100000000   a generated file; see GENERATORS
    $ foretrain estimate job.json       one command line; no shell behind it
    what stdout must be, line by line
    ! what stderr must be, each line behind "! "
    exit 2                              ends the command; the next one may follow
    @long                               the next command takes long, and --brief leaves it out

All commands of a file run in one empty folder, which is also HOME. In what they print, the repository is written
<repo> and the folder <tmp>. A figure that differs from run to run or from machine to machine is written [..], which
stands for any text within its line, and the gap between two columns of that line (two spaces or more) for any such gap;
a line that is only ... stands for any number of lines. --update rewrites the expected
text with the real one and keeps the expected line wherever it still matches; the diff is for review.
Exit status: 0 all passed, 1 some failed, 2 a test file is malformed.
"""

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240


def nesting(count):
    """N opening brackets and nothing that closes them."""
    for start in range(0, count, 1 << 20):
        yield b"[" * min(1 << 20, count - start)


def binary(count):
    """N bytes that are no text: 0, 1, ..., 255, 0, ..."""
    yield (bytes(range(256)) * (count // 256 + 1))[:count]


def words(count):
    """N bytes of words, for a text to train on."""
    line = b"the quick brown fox jumps over the lazy dog\n"
    yield (line * (count // len(line) + 1))[:count]


GENERATORS = {"nesting": nesting, "binary": binary, "words": words}


class Malformed(Exception):
    pass


class Command:
    def __init__(self, line, text):
        self.line = line  # number of the "$" line, from 1
        self.text = text
        self.is_long = False
        self.expected = []
        self.exit_code = None


def parse(path):
    """(items, commands): items keeps every line of the file that is not expected text, in order."""
    items, command, block, is_long = [], None, None, False
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if block is not None:
            if line == "@end":
                items.append(("file", (block[0], "\n".join(block[1]) + "\n" if block[1] else "")))
                block = None
            else:
                block[1].append(line)
        elif command is not None:
            match = re.fullmatch(r"exit (\d+)", line)
            if match:
                command.exit_code = int(match.group(1))
                command = None
            elif line.startswith("$ "):
                raise Malformed(f"{path}:{number}: a command begins before the one at line {command.line} had its 'exit N'")
            else:
                command.expected.append(line)
        elif line.startswith("$ "):
            command = Command(number, line[2:])
            if shlex.split(command.text)[:1] != ["foretrain"]:
                raise Malformed(f"{path}:{number}: {line!r}: a command must begin with 'foretrain'")
            command.is_long, is_long = is_long, False
            items.append(("command", command))
        elif is_long:
            raise Malformed(f"{path}:{number}: {line!r}: expected the command that takes long")
        elif line == "@long":
            is_long = True
            items.append(("text", line))
        elif line.startswith("@file "):
            parts = line.split()
            if len(parts) == 2:
                block = (parts[1], [])
            elif len(parts) == 4 and parts[2] in GENERATORS and parts[3].isdigit():
                items.append(("generated", (parts[1], parts[2], int(parts[3]))))
            else:
                known = ", ".join(f"'{name} BYTES'" for name in GENERATORS)
                raise Malformed(f"{path}:{number}: {line!r}: expected '@file NAME' or '@file NAME' with one of {known}")
        elif line == "" or line.startswith("#"):
            items.append(("text", line))
        else:
            raise Malformed(f"{path}:{number}: {line!r}: expected '# text', '@file NAME', '@long' or '$ foretrain ...'")
    if block is not None:
        raise Malformed(f"{path}: '@file {block[0]}' has no '@end'")
    if command is not None:
        raise Malformed(f"{path}:{command.line}: the command has no 'exit N'")
    return items


def line_matches(expected, actual):
    if "[..]" not in expected:
        return expected == actual
    parts = [re.escape(part) for part in expected.split("[..]")]
    return re.fullmatch(".*".join(re.sub(r"(\\ ){2,}", "[ ]{2,}", part) for part in parts), actual) is not None


def matches(expected, actual):
    """Whether the lines fit; a line '...' takes any number of them."""
    reachable = {0}
    for line in expected:
        if line == "...":
            reachable = set(range(min(reachable), len(actual) + 1)) if reachable else set()
        else:
            reachable = {i + 1 for i in reachable if i < len(actual) and line_matches(line, actual[i])}
    return len(actual) in reachable


def as_lines(text, prefix=""):
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [(prefix + line).rstrip(" ") if prefix else line for line in lines]


def run_command(command, foretrain, folder):
    """(lines as a test writes them, exit code)"""
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(folder), "LC_ALL": "C.UTF-8",
                   "CUDA_VISIBLE_DEVICES": "-1"}  # GPUs have tests of their own
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
        if name in os.environ:
            environment[name] = os.environ[name]
    arguments = [str(foretrain)] + shlex.split(command.text)[1:]
    done = subprocess.run(arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=TIMEOUT_S, check=False)

    def normal(output):
        text = output.decode("utf-8", "backslashreplace")
        return text.replace(str(folder), "<tmp>").replace(str(REPO), "<repo>")

    return as_lines(normal(done.stdout)) + as_lines(normal(done.stderr), "! "), done.returncode


def updated(expected, actual):
    """The real lines, but with the expected line wherever the two still match."""
    if matches(expected, actual):
        return expected
    patterns = [line for line in expected if "[..]" in line]
    return [next((p for p in patterns if line_matches(p, line)), line) for line in actual]


def run_file(path, foretrain, update, brief):
    """True if every command of the file did what it says."""
    items = parse(path)
    passed = True
    with tempfile.TemporaryDirectory(prefix="foretrain-golden-") as name:
        folder = Path(name).resolve()
        for kind, value in items:
            if kind == "file":
                (folder / value[0]).parent.mkdir(parents=True, exist_ok=True)
                (folder / value[0]).write_text(value[1])
            elif kind == "generated":
                with open(folder / value[0], "wb") as out:
                    for chunk in GENERATORS[value[1]](value[2]):
                        out.write(chunk)
            elif kind == "command" and not (brief and value.is_long):
                try:
                    actual, exit_code = run_command(value, foretrain, folder)
                except subprocess.TimeoutExpired:
                    print(f"{path}:{value.line}: $ {value.text}\n  took more than {TIMEOUT_S} s")
                    passed = False
                    continue
                if not matches(value.expected, actual) or exit_code != value.exit_code:
                    passed = False
                    if not update:
                        print(f"{path}:{value.line}: $ {value.text}")
                        expected = value.expected + [f"exit {value.exit_code}"]
                        for line in difflib.unified_diff(expected, actual + [f"exit {exit_code}"], "expected", "printed", lineterm=""):
                            print("  " + line)
                value.expected, value.exit_code = updated(value.expected, actual), exit_code
    if update and not passed:
        path.write_text(written(items))
        print(f"{path}: updated")
    return passed or update


def written(items):
    lines = []
    for kind, value in items:
        if kind == "text":
            lines.append(value)
        elif kind == "file":
            lines += [f"@file {value[0]}", *as_lines(value[1]), "@end"]
        elif kind == "generated":
            lines.append("@file {} {} {}".format(*value))
        else:
            lines += [f"$ {value.text}", *value.expected, f"exit {value.exit_code}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foretrain", type=Path, default=REPO / "build/release/foretrain", help="the program under test")
    parser.add_argument("--update", action="store_true", help="rewrite the expected text with the real one")
    parser.add_argument("--brief", action="store_true", help="without the commands that take long")
    parser.add_argument("files", nargs="*", type=Path, help="default: every tests/golden/*.test")
    arguments = parser.parse_args()
    if not arguments.foretrain.exists():
        print(f"{arguments.foretrain}: no such program; build it or name it with --foretrain", file=sys.stderr)
        return 2
    files = arguments.files or sorted((REPO / "tests/golden").glob("*.test"))
    try:
        failed = [path for path in files if not run_file(path, arguments.foretrain.resolve(), arguments.update, arguments.brief)]
    except Malformed as mistake:
        print(mistake, file=sys.stderr)
        return 2
    print(f"{len(files) - len(failed)} of {len(files)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
