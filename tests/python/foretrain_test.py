#!/usr/bin/env python3
"""The Python package against the command line, and what it makes of mistakes."""

import copy
import json
import os
import subprocess
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
        with self.assertRaises(ValueError):
            foretrain.estimate(with_model(moe_imbalance=float("nan")))

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
