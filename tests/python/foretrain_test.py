#!/usr/bin/env python3
"""The Python package against the command line, and what it makes of mistakes."""

import copy
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest

import foretrain

JOB = {
    "version": 1,
    "workload": {"model": "gpt2-124m", "seq_len": 1024, "global_batch": 64},
    "cluster": {"system": "dgx-a100-80gb", "nodes": 1},
    "strategy": {"dp": 4, "tp": 2},
}


def with_model(**fields):
    job = copy.deepcopy(JOB)
    job["workload"].update(fields)
    return job


class EstimateTest(unittest.TestCase):
    def test_is_what_the_command_prints(self):
        printed = subprocess.run(
            [os.environ["FORETRAIN"], "estimate", "megatron-22b-8-a100", "micro_batch=2", "--json"],
            capture_output=True, text=True, check=True).stdout
        self.assertEqual(foretrain.estimate("megatron-22b-8-a100", {"micro_batch": 2}), json.loads(printed))

    def test_a_whole_run_is_what_the_command_prints(self):
        options = ["--tokens", "300B", "--checkpoint-every", "20 min", "--price", "2.5", "--runs", "100"]
        printed = subprocess.run([os.environ["FORETRAIN"], "estimate", "megatron-22b-8-a100", *options, "--json"],
                                 capture_output=True, text=True, check=True).stdout
        e = foretrain.estimate("megatron-22b-8-a100", tokens=3e11, checkpoint_every="20 min", price=2.5, runs=100)
        self.assertEqual(e, json.loads(printed))
        self.assertEqual(e["whole_run"]["tokens"], 3e11)
        for message, words in (("did you mean \"tokens\"", {"token": 3e11}), ("needs tokens", {"price": 2}),
                               ("whole_run:1: /tokens: true", {"tokens": True})):
            with self.assertRaisesRegex(foretrain.InputError, message):
                foretrain.estimate("megatron-22b-8-a100", **words)

    def test_overrides_come_as_a_dict_or_a_list(self):
        one = foretrain.estimate(JOB, {"strategy.tp": 4, "strategy.dp": 2})
        self.assertEqual(one, foretrain.estimate(JOB, ["strategy.tp=4", "strategy.dp=2"]))
        self.assertEqual(one["resolved"]["strategy"]["tp"], 4)
        self.assertTrue(foretrain.estimate(JOB, {"sequence_parallel": True})["resolved"]["strategy"]["sequence_parallel"])

    def test_its_resolved_job_is_a_job_again(self):
        first = foretrain.estimate(JOB)
        self.assertEqual(foretrain.estimate(first["resolved"])["step_time_s"], first["step_time_s"])

    def test_what_does_not_fit_is_no_error(self):
        job = with_model(model="gpt3-175b", global_batch=8)
        e = foretrain.estimate(job, fixes=False)
        self.assertFalse(e["fits"])
        self.assertEqual(e["fixes"], [])

    def test_mistakes_are_all_named(self):
        with self.assertRaises(foretrain.InputError) as caught:
            foretrain.estimate({"version": 1, "workload": {"model": "gpt2-125m"}, "cluster": {"system": "dgx-a100-80gb"}})
        self.assertIn('did you mean "gpt2-124m"', str(caught.exception))
        self.assertIn("/workload/seq_len", str(caught.exception))
        self.assertIsInstance(caught.exception, ValueError)

    def test_wrong_types_are_refused(self):
        with self.assertRaises(TypeError):
            foretrain.estimate(3)
        with self.assertRaises(TypeError):
            foretrain.estimate(JOB, "tp=4")

    def test_numbers_that_json_has_not_are_named(self):
        job = with_model(moe_imbalance=float("nan"))
        with self.assertRaisesRegex(foretrain.InputError, "job: /workload/moe_imbalance: nan is not allowed"):
            foretrain.estimate(job)
        self.assertIn("expected a finite number", foretrain.validate(job)[0])
        with self.assertRaisesRegex(foretrain.InputError, "whole_run: /price: inf is not allowed"):
            foretrain.estimate("quickstart", steps=10, price=float("inf"))

    def test_types_of_words(self):
        for words, said in (({"network": None}, "network is of type str, not NoneType"), ({"fixes": 1}, "fixes is of type bool"),
                            ({"overrides": [1]}, "list of texts KEY=VALUE")):
            with self.assertRaisesRegex(TypeError, said):
                foretrain.estimate("quickstart", **words)
        for words, said in (({"keep": 1.5}, "keep is of type int, not float"), ({"free": [1]}, "list of words")):
            with self.assertRaisesRegex(TypeError, said):
                foretrain.search("quickstart", **words)

    def test_other_threads_run_meanwhile(self):
        done = threading.Event()
        worker = threading.Thread(target=lambda: (foretrain.estimate("llama3.1-405b-16384-h100"), done.set()))
        worker.start()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0.001)
        worker.join()
        self.assertGreater(turns, 3)  # it takes a tenth of a second or more; held by the lock, turns would be 1 or 2


class ValidateTest(unittest.TestCase):
    def test_a_job(self):
        self.assertEqual(foretrain.validate(JOB), [])

    def test_mistakes_line_by_line(self):
        mistakes = foretrain.validate(with_model(seq_len=-1, global_batch="many"))
        self.assertEqual(len(mistakes), 2)
        self.assertIn("/workload/seq_len", mistakes[0])


class SearchTest(unittest.TestCase):
    OPEN = {key: JOB[key] for key in ("version", "workload", "cluster")}
    SMALL = {"tp": [1, 2], "pp": 1, "micro_batch": range(1, 3), "zero": [0, 1], "recompute": "none"}

    def test_is_what_the_command_prints(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self.OPEN, file)
            file.flush()
            axes = "tp=1,2;pp=1;micro_batch=1,2;zero=0,1;recompute=none"
            printed = json.loads(subprocess.run([os.environ["FORETRAIN"], "search", file.name, "--axis", axes, "--json"],
                                                capture_output=True, text=True, check=True).stdout)
        found = foretrain.search(self.OPEN, axis=self.SMALL)
        for document in (found, printed):
            document.pop("wall_s")
        self.assertEqual(found, printed)
        self.assertTrue(found["bound"]["proved_optimal"])

    def test_no_plan_of_the_space_is_faster(self):
        best = foretrain.search(self.OPEN, axis=self.SMALL)["best"]["estimate"]
        times = {(tp, m, zero): foretrain.estimate(self.OPEN, {"tp": tp, "dp": 8 // tp, "micro_batch": m, "zero": zero})["step_time_s"]
                 for tp in (1, 2) for m in (1, 2) for zero in (0, 1)}
        self.assertLessEqual(best["step_time_s"], min(times.values()))

    def test_words_of_the_job_stay_unless_free(self):
        self.assertEqual(foretrain.search(JOB, axis={"micro_batch": [1]}, time=1)["space"]["tp"], [2])
        self.assertEqual(foretrain.search(JOB, axis=self.SMALL, free="all")["space"]["tp"], [1, 2])

    def test_tokens_of_encoder_decoders_count_both_ways(self):
        job = {"version": 1, "workload": {"model": "t5-small", "seq_len": 512, "global_batch": 16},
               "cluster": {"system": "dgx-a100-80gb", "nodes": 1}}
        found = foretrain.search(job, axis={"tp": 1, "zero": 0, "recompute": "none"})
        for plan in [found["best"], *found["runners_up"]]:
            estimate = plan["estimate"]
            self.assertAlmostEqual(estimate["tokens_per_s"] * estimate["step_time_s"], 16 * 1024, delta=1)

    def test_what_does_not_fit_has_no_best(self):
        big = {**self.OPEN, "workload": {"model": "gpt3-175b", "seq_len": 2048, "global_batch": 8}}
        found = foretrain.search(big, axis={"tp": 8, "pp": 1, "zero": 0, "micro_batch": 1, "recompute": "full"})
        self.assertIsNone(found["best"])

    def test_mistakes(self):
        for message, words in (("tpp", {"axis": {"tpp": [1]}}), ('says no "pp"', {"free": ["pp"]}), ("within", {"within": 1}),
                               ("time", {"time": -1}), ("keep", {"keep": 0})):
            with self.assertRaisesRegex(foretrain.InputError, message):
                foretrain.search(JOB, **words)


class TableTest(unittest.TestCase):
    def test_rows_and_html(self):
        e = foretrain.estimate(JOB)
        table = foretrain.Table([e, foretrain.estimate(JOB, {"tp": 4, "dp": 2})])
        self.assertEqual([row[:5] for row in table.rows], [["gpt2-124m", "8", "4", "2", "1"], ["gpt2-124m", "8", "2", "4", "1"]])
        self.assertEqual(len(str(table).splitlines()), 3)
        self.assertIn("<td>gpt2-124m</td>", e._repr_html_())

    def test_names_are_escaped(self):
        e = foretrain.estimate(JOB)
        e["resolved"]["workload"]["model"] = "<b>"
        self.assertIn("&lt;b&gt;", e._repr_html_())


def paths(value, path=""):
    """Dotted paths of a document's figures: "memory.per_stage[].peak_bytes"."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from paths(item, path + "[]")
    else:
        yield path


class DefinitionsTest(unittest.TestCase):
    def test_every_figure_of_an_estimate_is_explained(self):
        found = set()
        for job, overrides in (("gpt3-175b-1024-a100", {}), ("slow-storage", {}), ("two-hosts", {}),
                               ("asynchronous-servers", {}), ("megatron-22b-8-a100", {"micro_batch": 4, "tp": 2, "dp": 4,
                                                                                       "global_batch": 64})):
            e = dict(foretrain.estimate(job, overrides))
            del e["resolved"]
            found.update(paths(e))
        self.assertIn("fixes[].change", found)
        unknown = [path for path in sorted(found)
                   if subprocess.run([os.environ["FORETRAIN"], "explain", path], capture_output=True).returncode != 0]
        self.assertEqual(unknown, [])


if __name__ == "__main__":
    unittest.main()
