#!/usr/bin/env python3
"""Tests of the golden runner itself, with a shell script in the place of foretrain."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import run


class RunnerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.program = Path(self.folder.name) / "program"
        # Prints its arguments, the size of the file it is given, its folder; complains on stderr; exits with 3.
        self.program.write_text(
            '#!/bin/sh\necho "arguments: $*"\n[ -z "$1" ] || wc -c < "$1"\necho "in $PWD"\n'
            'echo "took $$ us"\necho "no good" >&2\nexit 3\n')
        self.program.chmod(0o755)

    def check(self, text, update=False, brief=False):
        path = Path(self.folder.name) / "x.test"
        path.write_text(text)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            passed = run.run_file(path, self.program, update, brief)
        return passed, path.read_text(), out.getvalue()

    GOOD = ("# shows\n\n@file a.txt\nfive\n@end\n$ foretrain a.txt 'b c'\narguments: a.txt b c\n5\nin <tmp>\ntook [..] us\n"
            "! no good\nexit 3\n")

    def test_passes_when_text_and_exit_code_fit(self):
        self.assertTrue(self.check(self.GOOD)[0])

    def test_fails_on_another_exit_code_and_says_so(self):
        passed, _, out = self.check(self.GOOD.replace("exit 3", "exit 0"))
        self.assertFalse(passed)
        self.assertIn("-exit 0", out)
        self.assertIn("+exit 3", out)

    def test_fails_on_another_text(self):
        self.assertFalse(self.check(self.GOOD.replace("! no good", "! good"))[0])
        self.assertFalse(self.check(self.GOOD.replace("! no good\n", ""))[0])

    def test_generated_files(self):
        for kind in run.GENERATORS:
            text = f"@file g {kind} 1000003\n$ foretrain g\narguments: g\n1000003\n...\nexit 3\n"
            self.assertTrue(self.check(text)[0], kind)

    def test_dots_stand_for_any_number_of_lines(self):
        for lines, fits in (("...", True), ("...\n! no good", True), ("arguments: \n...", True), ("...\nother", False)):
            self.assertEqual(self.check(f"$ foretrain\n{lines}\nexit 3\n")[0], fits, lines)

    def test_update_writes_the_real_text_and_keeps_patterns(self):
        passed, text, _ = self.check(self.GOOD.replace("five", "sixsix").replace("! no good", "! bad"), update=True)
        self.assertTrue(passed)
        self.assertEqual(text, self.GOOD.replace("five", "sixsix").replace("\n5\n", "\n7\n"))

    def test_brief_leaves_out_what_takes_long_and_nothing_else(self):
        wrong, good = "$ foretrain\nwrong\nexit 0\n", "$ foretrain\n...\nexit 3\n"
        self.assertTrue(self.check("@long\n" + wrong + good, brief=True)[0])
        self.assertFalse(self.check("@long\n" + good + wrong, brief=True)[0])
        self.assertFalse(self.check("@long\n" + wrong + good)[0])

    def test_malformed_files_are_refused(self):
        for text in ("$ rm -rf x\nexit 0\n", "$ foretrain\n", "what\n", "@file a\n", "@file a strange 3\n",
                     "$ foretrain\n$ foretrain\nexit 0\n", "@long\n\n", "@long\n@file a\n@end\n"):
            with self.assertRaises(run.Malformed, msg=text):
                self.check(text)

    def test_the_readme_shows_what_is_printed(self):
        block = (run.REPO / "README.md").read_text().split("```")[1].strip("\n").split("\n")
        self.assertTrue(block[0].startswith("$ build/release/foretrain estimate "))
        commands = [v for kind, v in run.parse(run.REPO / "tests/golden/estimate.test") if kind == "command"]
        expected = next(c.expected for c in commands if c.text == block[0].removeprefix("$ build/release/"))
        self.assertEqual(block[1:], expected[: len(block) - 1])


if __name__ == "__main__":
    unittest.main()
