#!/usr/bin/env python3
"""docs/schemas against the readers: every file of the catalogue validates, every object has the keys that its reader
knows, no more and no fewer, and every key the words, ranges and units. What a reader knows it says of a key that it does
not: `unknown key ...; known: ...`; what it takes, of a value that is wrong: `expected an integer from 1 to 10`."""

import copy
import json
import math
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
MODEL = {"layers": 10000, "hidden": 64, "heads": 2, "vocab": 100, "ffn_hidden": 64}


def system(**keys):
    return {"device": DEVICE, "devices_per_node": 8, "intra": LINK, "inter": LINK, **keys}


def job(model, system, data=None, cluster=None, strategy=None):
    return {"version": 1,
            "workload": {"model": model, "seq_len": 64, "global_batch": 8, "optimizer": {}, "loss_scaling": {}, "data": data or {}},
            "cluster": {"system": system, "nodes": 2, **(cluster or {})}, "strategy": strategy or {}}


# Together they have every object of a job, what a reader asks for only beside some other word, and the largest layers and
# nodes, where those are the limit of another key.
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
    job({**MODEL, "architecture": "encoder", "head": "masked_lm"}, {**system(), "devices_per_node": 100000}),
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


# Each is wrong for most keys.
WRONG = ([None], False, "no-such-word")
# What a reader says that it expects, as kind of value and its figures or words.
RANGE = r"from (\S+) to ([^ ,]+)"
SAID = (
    (r"expected (\d+)", lambda m: {"constant": {int(m[1])}}),
    (rf"expected an integer {RANGE}", lambda m: {"integer": (float(m[1]), float(m[2]))}),
    (r"expected an integer >= (\S+)", lambda m: {"integer": (float(m[1]), math.inf)}),
    (rf"expected a number {RANGE}", lambda m: {"number": (float(m[1]), float(m[2]))}),
    (rf"expected a number {RANGE}, or one for each .*",
     lambda m: {kind: (float(m[1]), float(m[2])) for kind in ("number", "list of numbers")}),
    (r"expected a number >= (\S+)", lambda m: {"number": (float(m[1]), math.inf)}),
    (r"expected true or false", lambda m: {"boolean": set()}),
    (r"expected a string", lambda m: {"string": set()}),
    (r"expected one of: (.*)", lambda m: {"word": set(m[1].split(", "))}),
    (r"expected .* or \"(.*)\"", lambda m: {"word": {m[1]}}),
    (r"expected a list of: (.*)", lambda m: {"list of words": set(m[1].split(", "))}),
    (r"expected a list, each an integer >= (\S+)", lambda m: {"list of integers": (float(m[1]), math.inf)}),
    (r"expected a list of strings", lambda m: {"list of strings": set()}),
    (r"expected a list of objects", lambda m: {"list of objects": set()}),
    (r"expected an object", lambda m: {"object": set()}),
    (r"expected a number and a unit, one of: (.*)", lambda m: {"quantity": set(m[1].split(" "))}),
)
SAID_OF_ITEMS = (
    (r"expected: (.*)", lambda m: {"list of words": set(m[1].split(", "))}),
    (r"expected an integer >= (\S+)", lambda m: {"list of integers": (float(m[1]), math.inf)}),
    (r"expected a string", lambda m: {"list of strings": set()}),
)


def expected_by_reader(messages):
    """Kinds of values, each with all that any of the messages allows."""
    kinds = {}
    for message in messages:
        wrong, _, expected = message.partition("; ")
        expected = re.sub(r"^did you mean \S+\? ", "", expected)
        for pattern, kinds_of in (SAID_OF_ITEMS if wrong.endswith("in the list is not allowed") else
                                  SAID if wrong.endswith(("is not allowed", "is not a quantity")) else ()):
            if match := re.fullmatch(pattern, expected):
                for kind, what in kinds_of(match).items():
                    before = kinds.get(kind, what)
                    kinds[kind] = (before | what if isinstance(what, set) else
                                   (min(before[0], what[0]), max(before[1], what[1])))
    return kinds


def expected_by_schema(schema):
    kinds = {}
    for branch in schema.branches():
        value = branch.value
        within = (value.get("minimum", -math.inf), value.get("maximum", math.inf))
        if value.get("type") == "array":
            items = Schema(branch.name, value["items"]).value
            within = (items.get("minimum", -math.inf), items.get("maximum", math.inf))
            kind = "words" if "enum" in items else items["type"] + "s"
            kinds["list of " + kind] = (set(items["enum"]) if "enum" in items else
                                        within if kind in ("integers", "numbers") else set())
        elif "const" in value:
            kinds["constant" if isinstance(value["const"], int) else "word"] = {value["const"]}
        elif "enum" in value:
            kinds["word"] = set(value["enum"])
        elif units := re.search(r" \*\((.*)\)\$$", value.get("pattern", "")):
            kinds["quantity"] = set(units[1].split("|"))
        elif "type" in value:
            kinds[value["type"]] = within if value["type"] in ("integer", "number") else set()
    return kinds


def closed_objects(document, schema, path=()):
    """Those of a document: path and schema."""
    if isinstance(document, list):
        for i, item in enumerate(document):
            yield from closed_objects(item, schema.child(i), (*path, str(i)))
    elif isinstance(document, dict):
        own = schema.typed("object")
        if own.is_closed():
            yield path, own
        for key, value in document.items():
            yield from closed_objects(value, schema.child(key), (*path, key))


def changed(document, path, change):
    result = copy.deepcopy(document)
    place = result
    for token in path:
        place = place[int(token) if isinstance(place, list) else token]
    change(place)
    return result


def said_of(text, path):
    """What of the messages is said of this place."""
    return re.findall(rf"^\S.*?: {re.escape('/' + '/'.join(path))}: (.*)$", text, re.MULTILINE)


class ValuesTest(unittest.TestCase):
    """Documents that are wrong in one place each, all judged by one process."""

    def judged(self, documents, job_of=lambda document: document):
        lines = "".join(json.dumps(job_of(document)) + "\n" for document in documents)
        done = subprocess.run([os.environ["FORETRAIN"], "estimate", "--batch", "-"], input=lines, capture_output=True,
                              text=True, check=False)
        results = [json.loads(line).get("error", "") for line in done.stdout.splitlines()]
        self.assertEqual(len(results), len(documents), done.stderr)
        return results

    def check(self, documents, schema, job_of=lambda document: document):
        places = [(document, *place) for document in documents for place in closed_objects(document, schema)]
        self.check_values(places, job_of)
        self.check_required(places, job_of)

    def check_values(self, places, job_of):
        wrong, of = [], []
        for document, path, own in places:
            for key, value in own.value.get("properties", {}).items():
                for probe in WRONG:
                    wrong.append(changed(document, path, lambda place: place.__setitem__(key, probe)))
                    of.append(((own.key(), key), (*path, key), Schema(own.name, value)))
        said, schemas = {}, {}
        for text, (place, path, schema) in zip(self.judged(wrong, job_of), of):
            said.setdefault(place, []).extend(said_of(text, path))
            schemas[place] = schema
        for place, schema in schemas.items():
            by_schema, by_reader = expected_by_schema(schema), expected_by_reader(said[place])
            patterns = [branch.value["pattern"] for branch in schema.branches() if "pattern" in branch.value]
            if "word" in by_reader:  # "topk:SHARE"
                by_reader["word"] -= {w for w in by_reader["word"] if any(re.search(p, w) for p in patterns)}
            if len(by_schema) > 1:  # beside others they are files, or told of in other words
                for kind in ("string", "object"):
                    by_schema.pop(kind, None)
                    by_reader.pop(kind, None)
            with self.subTest(object=place[0][:60], key=place[1]):
                self.assertEqual(by_schema, by_reader, set(said[place]))

    def check_required(self, places, job_of):
        without, of = [], []
        for document, path, own in places:
            for key in own.value.get("properties", {}):
                without.append(changed(document, path, lambda place: place.pop(key, None)))
                of.append((own, path, key))
        required, schemas = {}, {}
        for text, (own, path, key) in zip(self.judged(without, job_of), of):
            required[own.key(), key] = required.get((own.key(), key), True) and bool(said_of(text, (*path, key)))
            schemas[own.key()] = own
        for name, own in schemas.items():
            with self.subTest(object=name[:60]):
                self.assertEqual(sorted(own.value.get("required", [])),
                                 sorted(key for (place, key), always in required.items() if place == name and always))

    def test_of_jobs_models_systems_and_devices(self):
        self.check(JOBS, Schema("job.json"))

    def test_of_profiles(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []

            def job_of(profile):
                files.append(Path(folder) / f"{len(files)}.json")
                files[-1].write_text(json.dumps(profile))
                return {"version": 1, "workload": {"model": "gpt2-124m", "seq_len": 64, "global_batch": 16},
                        "cluster": {"system": {**system(), "profile": str(files[-1])}, "nodes": 1}, "strategy": {"dp": 8}}

            self.check([PROFILE], Schema("profile.json"), job_of)

    def test_of_quantities(self):
        """Texts that the pattern takes are those that the reader takes."""
        for name, unit, place in (("bandwidth", "GB/s", ("cluster", "storage", "bandwidth")),
                                  ("time", "us", ("cluster", "storage", "latency")),
                                  ("bytes", "MB", ("strategy", "bucket_bytes"))):
            pattern = Schema("job.json").root["$defs"][name]["pattern"]
            texts = [text.replace("U", unit) for text in
                     ("1 U", "1U", "1   U", "1.5 U", "1. U", ".5 U", "1e3 U", "1.5e-3 U", "1E+2 U", "1.2.3 U", ". U", "-1 U",
                      "+1 U", " 1 U", "1 U ", "1", "U", "1 x", "1e U", "inf U", "nan U", "0x1 U", "1,5 U", "")]
            jobs = [changed(JOBS[0], place[:-1], lambda at: at.__setitem__(place[-1], text)) for text in texts]
            for text, said in zip(texts, self.judged(jobs)):
                with self.subTest(text=text):
                    self.assertEqual(bool(re.search(pattern, text)), not said_of(said, place), said_of(said, place))


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
