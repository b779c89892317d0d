#!/usr/bin/env python3
"""docs/schemas against the readers: every file of the catalogue validates, and every object has the keys that its reader
knows, no more and no fewer. What a reader knows it says of a key that it does not: `unknown key ...; known: ...`."""

import copy
import json
import os
import re
import subprocess
import tempfile
import unittest
import warnings
from pathlib import Path

try:
    import jsonschema
except ImportError:
    jsonschema = None

HOME = Path(__file__).resolve().parents[2]
SCHEMAS = HOME / "docs" / "schemas"
PROBE = "no-such-key"

DEVICE = {"name": "d", "memory": "80 GB", "memory_bandwidth": "2 TB/s", "peak": {"bf16": "300 TFLOP/s"}}
LINK = {"bandwidth": "50 GB/s", "latency": "2 us"}
PCIE = {"bandwidth": "32 GB/s"}
ENDS = {"from": 0, "to": 9}
MODEL = {"layers": 2, "hidden": 64, "heads": 2, "vocab": 100, "ffn_hidden": 64}


def system(**keys):
    return {"device": DEVICE, "devices_per_node": 8, "intra": LINK, "inter": LINK, **keys}


def job(model, system, data=None, cluster=None, strategy=None):
    return {"version": 1,
            "workload": {"model": model, "seq_len": 64, "global_batch": 8, "optimizer": {}, "loss_scaling": {}, "data": data or {}},
            "cluster": {"system": system, "nodes": 2, **(cluster or {})}, "strategy": strategy or {}}


# Together they have every object of a job, and what a reader asks for only beside some other word.
JOBS = [
    job({**MODEL, "moe": {"experts": 4, "top_k": 1, "ffn_hidden": 8}, "ssm": {"heads": 2},
         "rotary_scaling": {"factor": 8, "original_positions": 8192},
         "mla": {"kv_rank": 8, "nope_dim": 8, "rope_dim": 8, "v_dim": 8}},
        system(host={"link": "32 GB/s", "memory": "100 GB/s"}, storage={"bandwidth": "1 GB/s"},
               fabric={"kind": "fat_tree", "node": {"kind": "nvswitch", "pcie": PCIE},
                       "sites": {"count": 2, "bandwidth": "1 GB/s", "latency": "1 ms"}}),
        cluster={"storage": {"bandwidth": "1 GB/s"},
                 "disturbance": {"devices": [{"range": "0", "speed": 0.5}], "nodes": [{"range": "0", "speed": 0.5}],
                                 "links": [{**ENDS, "class": "NVLink", "speed": 0.5}],
                                 "background": [{**ENDS, "bandwidth": "1 GB/s"}]}},
        strategy={"data_parallel": "local_sgd", "outer_optimizer": {"kind": "nesterov"}}),
    job({**MODEL, "architecture": "encoder_decoder"}, system(fabric={"kind": "torus", "dims": [2], "node": {"kind": "all_to_all",
                                                                                                     "link_bandwidth": "5 GB/s"}})),
    job({**MODEL, "architecture": "encoder", "head": "classifier"},
        system(fabric={"kind": "dragonfly", "routers": 2, "adapters_per_router": 8, "global_links": 1,
                       "node": {"kind": "graph", "graph": {"links": [{"between": ["GPU 0", "GPU 1"], "bandwidth": "5 GB/s"}]}}})),
    job({"architecture": "linear", "inputs": 4}, system()),
    job({"architecture": "mlp", "inputs": 4, "layers": 1, "hidden": 8},
        {"this_machine": True, "device": DEVICE, "intra": LINK},
        cluster={"inter": LINK, "hosts": {"worker": ["a", "b"]}}),
]

PROFILE = {
    "schema": "foretrain.profile/1", "name": "p",
    "roofline": {"k_half": {}, "matmul": {}, "matmul_limit": {}, "memory_by_kind": {}, "attention_forward": {},
                 "attention_backward": {}},
    "network": {"node_busbw": {}, "fabric_fraction": {}, "ll_limit": {}},
    "sharing": {"node_blocks": {}, "fabric_blocks": {}, "memory_traffic": {}},
    "measured": {table: [{}] for table in ("matmul", "attention", "memory", "collectives", "exchanges", "sharing", "overlap")},
}


class Schema:
    """A schema and the document whose definitions it may refer to."""

    def __init__(self, name, value=None):
        self.name = name
        self.root = json.loads((SCHEMAS / name).read_text())
        self.value = self.root if value is None else value
        while "$ref" in self.value:
            file, _, pointer = self.value["$ref"].partition("#")
            if file:
                self.name, self.root = file, json.loads((SCHEMAS / file).read_text())
            self.value = self.root
            for token in pointer.split("/")[1:]:
                self.value = self.value[token]

    def branches(self):
        if "anyOf" in self.value:
            return [inner for branch in self.value["anyOf"] for inner in Schema(self.name, branch).branches()]
        return [self]

    def typed(self, kind):
        return next((branch for branch in self.branches() if branch.value.get("type") == kind), None)

    def child(self, token):
        if isinstance(token, int) or token.isdigit():
            return Schema(self.name, self.typed("array").value["items"])
        own = self.typed("object")
        return Schema(own.name, own.value.get("properties", {}).get(token) or own.value["additionalProperties"])

    def is_closed(self):
        return self.value.get("additionalProperties") is False

    def key(self):
        return self.name + " " + json.dumps(self.value, sort_keys=True)

    def objects(self):
        """Every closed object under this one."""
        found = {}
        for branch in self.branches():
            if branch.value.get("type") == "object":
                if branch.is_closed():
                    found[branch.key()] = branch
                inner = list(branch.value.get("properties", {}).values())
                inner += [branch.value["additionalProperties"]] if isinstance(branch.value.get("additionalProperties"), dict) else []
            else:
                inner = [branch.value["items"]] if branch.value.get("type") == "array" else []
            for value in inner:
                found.update(Schema(branch.name, value).objects())
        return found


def probed(document, schema):
    """The document with an unknown key in each of its objects."""
    if isinstance(document, list):
        return [probed(item, schema.child(0)) for item in document]
    if not isinstance(document, dict):
        return document
    result = {key: probed(value, schema.child(key)) for key, value in document.items()}
    return {**result, PROBE: 1} if schema.typed("object").is_closed() else result


def known_keys(run, schema):
    """What the readers say that they know, by object of the schema; `run`'s messages are of one document."""
    known = {}
    for pointer, words in re.findall(rf": (/\S*): unknown key \"{PROBE}\"; known: (.*)$", run, re.MULTILINE):
        place = schema
        for token in pointer.split("/")[1:-1]:
            place = place.child(token)
        known.setdefault(place.typed("object").key(), set()).update(words.split(", "))
    return known


def foretrain(*arguments):
    done = subprocess.run([os.environ["FORETRAIN"], *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class KeysTest(unittest.TestCase):
    def check(self, schema, known):
        for key, place in schema.objects().items():
            with self.subTest(object=key[:120]):
                self.assertIn(key, known, "no document of this test reaches it")
                self.assertEqual(sorted(place.value["properties"]), sorted(known[key]))

    def test_of_jobs_models_systems_and_devices(self):
        schema = Schema("job.json")
        known = {}
        with tempfile.TemporaryDirectory() as folder:
            for document in JOBS:
                path = Path(folder) / "job.json"
                path.write_text(json.dumps(probed(document, schema)))
                for key, words in known_keys(foretrain("estimate", str(path)), schema).items():
                    known.setdefault(key, set()).update(words)
        self.check(schema, known)

    def test_of_profiles(self):
        schema = Schema("profile.json")
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile.json"
            profile.write_text(json.dumps(probed(PROFILE, schema)))
            path = Path(folder) / "job.json"
            path.write_text(json.dumps({"version": 1, "workload": {"model": "gpt2-124m", "seq_len": 64, "global_batch": 16},
                                        "cluster": {"system": {**system(), "profile": str(profile)}, "nodes": 1},
                                        "strategy": {"dp": 8}}))
            self.check(schema, known_keys(foretrain("estimate", str(path)), schema))

    def test_descriptions_are_those_of_explain(self):
        for part, schema in Schema("job.json").root["$defs"].items():
            for field, value in schema.get("properties", {}).items():
                text = " ".join(foretrain("explain", f"{part}.{field}").split())
                self.assertIn(f"{part}.{field} {value['description']}", text)


@unittest.skipIf(jsonschema is None, "no jsonschema here (apt-get install python3-jsonschema)")
class ValidationTest(unittest.TestCase):
    @staticmethod
    def validator(name):
        path = SCHEMAS / name
        schema = json.loads(path.read_text())
        with warnings.catch_warnings():  # what replaces it is not in Debian 12
            warnings.simplefilter("ignore", DeprecationWarning)
            resolver = jsonschema.RefResolver(path.as_uri(), schema)
        return jsonschema.Draft202012Validator(schema, resolver=resolver)

    def test_schemas_are_schemas(self):
        for path in SCHEMAS.iterdir():
            jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))

    def test_every_file_of_the_catalogue(self):
        for name, folder in (("job", "workloads/jobs"), ("model", "workloads/models"), ("system", "topologies/systems"),
                             ("device", "topologies/devices"), ("profile", "topologies/profiles")):
            validator = self.validator(name + ".json")
            files = sorted((HOME / folder).glob("*.json"))
            self.assertGreater(len(files), 10)
            for file in files:
                with self.subTest(file=file.name):
                    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in
                              validator.iter_errors(json.loads(file.read_text()))]
                    self.assertEqual(errors, [])

    def test_a_resolved_job(self):
        for name in ("gpt3-175b-1024-a100", "asynchronous-servers", "linear-regression", "two-hosts"):
            resolved = json.loads(foretrain("estimate", name, "--json"))["resolved"]
            self.assertEqual([e.message for e in self.validator("job.json").iter_errors(resolved)], [])

    def test_mistakes(self):
        good = json.loads((HOME / "workloads/jobs/gpt3-175b-1024-a100.json").read_text())
        for part, key, wrong in (("strategy", "tp", "two"), ("strategy", "tpp", 2), ("workload", "precision", "bf15"),
                                 ("workload", "model", {"layers": 0}), ("cluster", "storage", {"bandwidth": "400 Gbps"})):
            bad = copy.deepcopy(good)
            bad[part][key] = wrong
            self.assertFalse(self.validator("job.json").is_valid(bad), f"{part}.{key} {wrong}")


if __name__ == "__main__":
    unittest.main()
