#!/usr/bin/env python3
"""What saved weights mean: trains a small model of each family, saves it, reads config.json and model.safetensors back
with nothing but Python, computes the loss as the transformers library's models do, and compares.

    tests/weights/check.py [--foretrain build/release/foretrain] [FAMILY ...]

In fp64, so that both differ by rounding only. Exit status: 0 all agree, 1 some do not.
"""

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(REPO / "scripts"))
import masking  # noqa: E402

TEXT = b"the quick fox"  # one sequence: 12 inputs, 12 targets
TOLERANCE = 1e-11

# ---- vectors and matrices, as lists ---------------------------------------------------------------------------------


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def add(a, b):
    return [x + y for x, y in zip(a, b)]


def softmax(values):
    top = max(values)
    e = [math.exp(v - top) for v in values]
    total = sum(e)
    return [x / total for x in e]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu_new(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


class Tensor:
    def __init__(self, shape, values):
        self.shape, self.values = shape, values

    def row(self, i):
        width = self.shape[-1]
        return self.values[i * width : (i + 1) * width]

    def block(self, i):
        size = len(self.values) // self.shape[0]
        return Tensor(self.shape[1:], self.values[i * size : (i + 1) * size])


def read_safetensors(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        assert entry["dtype"] == "F64", entry
        tensors[name] = Tensor(entry["shape"], list(struct.unpack(f"<{(end - begin) // 8}d", data[begin:end])))
    return tensors


# ---- the models, as the library computes them -----------------------------------------------------------------------


class Model:
    def __init__(self, config, tensors):
        self.c, self.t = config, tensors
        self.type = config["model_type"]
        self.used = set()

    def get(self, name):
        self.used.add(name)
        return self.t[name]

    def linear(self, name, x):
        """torch's Linear: rows are outputs."""
        w = self.get(name + ".weight")
        y = [dot(w.row(i), x) for i in range(w.shape[0])]
        return add(y, self.get(name + ".bias").values) if name + ".bias" in self.t else y

    def conv1d(self, name, x):
        """GPT-2's: rows are inputs."""
        w = self.get(name + ".weight")
        y = list(self.get(name + ".bias").values)
        for i, value in enumerate(x):
            y = [a + value * b for a, b in zip(y, w.row(i))]
        return y

    def layer_norm(self, name, x, eps):
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + eps)
        w, b = self.get(name + ".weight").values, self.get(name + ".bias").values
        return [(v - mean) * scale * g + s for v, g, s in zip(x, w, b)]

    def rms_norm(self, name, x):
        scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + self.c["rms_norm_eps"])
        return [v * scale * g for v, g in zip(x, self.get(name + ".weight").values)]

    def rotate(self, x, position, base):
        """rotate_half."""
        half = len(x) // 2
        angle = [position * self.scaled(base ** (-2 * i / len(x))) for i in range(half)]
        low = [x[i] * math.cos(angle[i]) - x[i + half] * math.sin(angle[i]) for i in range(half)]
        high = [x[i + half] * math.cos(angle[i]) + x[i] * math.sin(angle[i]) for i in range(half)]
        return low + high

    def scaled(self, frequency):
        """_compute_llama3_parameters."""
        c = self.c.get("rope_scaling")
        if not c:
            return frequency
        wave = 2 * math.pi / frequency
        original, low, high = c["original_max_position_embeddings"], c["low_freq_factor"], c["high_freq_factor"]
        if wave < original / high:
            return frequency
        if wave > original / low:
            return frequency / c["factor"]
        smooth = (original / wave - low) / (high - low)
        return (1 - smooth) * frequency / c["factor"] + smooth * frequency

    def attend_all(self, q, k, v):
        """One head, without a mask."""
        return [[dot(w, column) for column in zip(*v)] for w in (softmax([dot(a, b) / math.sqrt(len(a)) for b in k]) for a in q)]

    def attend(self, q, k, v, window=0, sink=None):
        """One head, causal: lists of rows by position."""
        out = []
        for i in range(len(q)):
            first = max(0, i - window + 1) if window else 0
            scores = [dot(q[i], k[j]) / math.sqrt(len(q[i])) for j in range(first, i + 1)]
            weights = softmax(scores + ([sink] if sink is not None else []))
            out.append([sum(w * v[first + j][d] for j, w in enumerate(weights[: i + 1 - first])) for d in range(len(v[0]))])
        return out

    def loss(self, ids):
        inputs, targets = ids[:-1], ids[1:]
        if self.type == "bert":
            inputs, targets = masking.masked(inputs, 0, round(0.15 * len(inputs)), self.c["mask_token_id"], self.c["vocab_size"])
        forward = {"bert": self.bert, "gpt2": self.gpt2, "gpt_neox": self.gpt_neox}.get(self.type, self.llama)
        told = [(row, target) for row, target in zip(forward(inputs), targets) if target >= 0]
        total = 0
        for row, target in told:
            top = max(row)
            total += math.log(sum(math.exp(v - top) for v in row)) + top - row[target]
        missed = set(self.t) - self.used
        assert not missed, f"not used: {sorted(missed)}"
        return total / len(told)

    def bert(self, ids):
        p, c = "bert.embeddings.", self.c
        eps, heads = c["layer_norm_eps"], c["num_attention_heads"]
        size = c["hidden_size"] // heads
        words, first_type = self.get(p + "word_embeddings.weight"), self.get(p + "token_type_embeddings.weight").row(0)
        places = self.get(p + "position_embeddings.weight")
        x = [self.layer_norm(p + "LayerNorm", add(add(words.row(t), places.row(i)), first_type), eps) for i, t in enumerate(ids)]
        for layer in range(c["num_hidden_layers"]):
            h = f"bert.encoder.layer.{layer}."
            q, k, v = ([self.linear(f"{h}attention.self.{w}", row) for row in x] for w in ("query", "key", "value"))
            cut = lambda rows, head: [row[head * size :][:size] for row in rows]
            parts = [self.attend_all(cut(q, head), cut(k, head), cut(v, head)) for head in range(heads)]
            for i, row in enumerate(x):
                out = self.linear(h + "attention.output.dense", sum((o[i] for o in parts), []))
                row = self.layer_norm(h + "attention.output.LayerNorm", add(row, out), eps)
                inner = [gelu(v) for v in self.linear(h + "intermediate.dense", row)]
                x[i] = self.layer_norm(h + "output.LayerNorm", add(row, self.linear(h + "output.dense", inner)), eps)
        p, scores = "cls.predictions.", self.get("cls.predictions.bias").values
        x = [[gelu(v) for v in self.linear(p + "transform.dense", row)] for row in x]
        x = [self.layer_norm(p + "transform.LayerNorm", row, eps) for row in x]
        return [add([dot(words.row(i), row) for i in range(words.shape[0])], scores) for row in x]

    def gpt2(self, ids):
        p, c = "transformer.", self.c
        eps, heads, size = c["layer_norm_epsilon"], c["n_head"], c["n_embd"] // c["n_head"]
        x = [add(self.get(p + "wte.weight").row(t), self.get(p + "wpe.weight").row(i)) for i, t in enumerate(ids)]
        for layer in range(c["n_layer"]):
            h = f"{p}h.{layer}."
            qkv = [self.conv1d(h + "attn.c_attn", self.layer_norm(h + "ln_1", row, eps)) for row in x]
            parts = []
            for head in range(heads):
                cut = [[row[(part * heads + head) * size :][:size] for row in qkv] for part in range(3)]
                parts.append(self.attend(*cut))
            x = [add(row, self.conv1d(h + "attn.c_proj", sum((o[i] for o in parts), []))) for i, row in enumerate(x)]
            for i, row in enumerate(x):
                inner = [gelu_new(v) for v in self.conv1d(h + "mlp.c_fc", self.layer_norm(h + "ln_2", row, eps))]
                x[i] = add(row, self.conv1d(h + "mlp.c_proj", inner))
        wte = self.get(p + "wte.weight")
        x = [self.layer_norm(p + "ln_f", row, eps) for row in x]
        return [[dot(wte.row(i), row) for i in range(wte.shape[0])] for row in x]

    def gpt_neox(self, ids):
        p, c = "gpt_neox.", self.c
        eps, heads = c["layer_norm_eps"], c["num_attention_heads"]
        size = c["hidden_size"] // heads
        turned = int(size * c["rotary_pct"])
        turn = lambda row, i: self.rotate(row[:turned], i, c["rotary_emb_base"]) + row[turned:]
        x = [self.get(p + "embed_in.weight").row(t) for t in ids]
        for layer in range(c["num_hidden_layers"]):
            h = f"{p}layers.{layer}."
            qkv = [self.linear(h + "attention.query_key_value", self.layer_norm(h + "input_layernorm", r, eps)) for r in x]
            parts = []
            for head in range(heads):
                q, k, v = ([row[(head * 3 + part) * size :][:size] for row in qkv] for part in range(3))
                parts.append(self.attend([turn(r, i) for i, r in enumerate(q)], [turn(r, i) for i, r in enumerate(k)], v))
            for i, row in enumerate(x):
                after = add(row, self.linear(h + "attention.dense", sum((o[i] for o in parts), [])))
                read = row if c["use_parallel_residual"] else after
                inner = self.linear(h + "mlp.dense_h_to_4h", self.layer_norm(h + "post_attention_layernorm", read, eps))
                x[i] = add(after, self.linear(h + "mlp.dense_4h_to_h", [gelu(v) for v in inner]))
        return [self.linear("embed_out", self.layer_norm(p + "final_layer_norm", row, eps)) for row in x]

    def llama(self, ids):
        c = self.c
        x = [self.get("model.embed_tokens.weight").row(t) for t in ids]
        for layer in range(c["num_hidden_layers"]):
            h = f"model.layers.{layer}."
            normed = [self.rms_norm(h + "input_layernorm", row) for row in x]
            heads = self.latent(h + "self_attn.", normed) if "kv_lora_rank" in c else self.grouped(h, layer, normed)
            x = [add(row, self.linear(h + "self_attn.o_proj", sum((o[i] for o in heads), []))) for i, row in enumerate(x)]
            for i, row in enumerate(x):
                x[i] = add(row, self.mlp_or_experts(h, self.rms_norm(h + "post_attention_layernorm", row)))
        head = "model.embed_tokens" if c["tie_word_embeddings"] else "lm_head"
        return [self.linear(head, self.rms_norm("model.norm", row)) for row in x]

    def grouped(self, h, layer, x):
        c = self.c
        size, base = c["head_dim"], c["rope_theta"]
        q, k, v = ([self.linear(f"{h}self_attn.{w}_proj", row) for row in x] for w in "qkv")
        window = c.get("sliding_window") or 0
        if c.get("layer_types", ["sliding_attention"] * 99)[layer] == "full_attention":
            window = 0

        def head_of(rows, head, norm):
            cut = [row[head * size :][:size] for row in rows]
            if self.type.startswith("qwen3") and norm:
                cut = [self.rms_norm(f"{h}self_attn.{norm}", row) for row in cut]
            return [self.rotate(row, i, base) for i, row in enumerate(cut)] if norm else cut

        out, share = [], c["num_attention_heads"] // c["num_key_value_heads"]
        for head in range(c["num_attention_heads"]):
            sink = self.get(h + "self_attn.sinks").values[head] if self.type == "gpt_oss" else None
            kv = head // share
            out.append(self.attend(head_of(q, head, "q_norm"), head_of(k, kv, "k_norm"), head_of(v, kv, ""), window, sink))
        return out

    def latent(self, p, x):
        c = self.c
        nope, rope, wide, base = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["rope_theta"]
        turn = lambda row, i: self.rotate(row[0::2] + row[1::2], i, base)  # pairs there, halves in rotate_half
        if c["q_lora_rank"] is None:
            q = [self.linear(p + "q_proj", row) for row in x]
        else:
            q = [self.linear(p + "q_b_proj", self.rms_norm(p + "q_a_layernorm", self.linear(p + "q_a_proj", r))) for r in x]
        down = [self.linear(p + "kv_a_proj_with_mqa", row) for row in x]
        rank = c["kv_lora_rank"]
        kv = [self.linear(p + "kv_b_proj", self.rms_norm(p + "kv_a_layernorm", row[:rank])) for row in down]
        out = []
        for head in range(c["num_attention_heads"]):
            rows = [row[head * (nope + rope) :][: nope + rope] for row in q]
            keys = [row[head * (nope + wide) :][:nope] + turn(down[i][rank:], i) for i, row in enumerate(kv)]
            values = [row[head * (nope + wide) + nope :][:wide] for row in kv]
            out.append(self.attend([r[:nope] + turn(r[nope:], i) for i, r in enumerate(rows)], keys, values))
        return out

    def gated(self, p, x, names=("gate_proj", "up_proj", "down_proj")):
        gate, up = self.linear(p + names[0], x), self.linear(p + names[1], x)
        return self.linear(p + names[2], [silu(g) * u for g, u in zip(gate, up)])

    def mlp_or_experts(self, h, x):
        if self.type == "gpt_oss":
            return self.oss_experts(h + "mlp.", x)
        place = h + ("block_sparse_moe." if self.type == "mixtral" else "mlp.")
        if place + "gate.weight" not in self.t:
            return self.gated(h + "mlp.", x)
        c = self.c
        logits = self.linear(place + "gate", x)
        scores = [sigmoid(v) for v in logits] if self.type == "deepseek_v3" else softmax(logits)
        chosen = range(len(scores))
        if self.type == "deepseek_v3":
            assert not any(self.get(place + "gate.e_score_correction_bias").values)
            size = len(scores) // c["n_group"]
            best = lambda g: sum(sorted(scores[g * size : (g + 1) * size])[-2:])
            groups = sorted(range(c["n_group"]), key=best)[-c["topk_group"] :]
            chosen = [e for e in chosen if e // size in groups]
        chosen = sorted(chosen, key=lambda e: scores[e])[-c["num_experts_per_tok"] :]
        normed = self.type == "mixtral" or c["norm_topk_prob"]
        total = sum(scores[e] for e in chosen) if normed else 1
        scale = c.get("routed_scaling_factor", 1.0)
        names = ("w1", "w3", "w2") if self.type == "mixtral" else ("gate_proj", "up_proj", "down_proj")
        y = [0.0] * len(x)
        for e in range(len(scores)):
            out = self.gated(f"{place}experts.{e}.", x, names)  # all, so that each is read
            if e in chosen:
                y = [a + scale * scores[e] / total * b for a, b in zip(y, out)]
        if place + "shared_experts.up_proj.weight" in self.t:
            y = add(y, self.gated(place + "shared_experts.", x))
        if self.type == "qwen2_moe":
            gate = sigmoid(self.linear(place + "shared_expert_gate", x)[0])
            y = add(y, [gate * v for v in self.gated(place + "shared_expert.", x)])
        return y

    def oss_experts(self, p, x):
        logits = self.linear(p + "router", x)
        chosen = sorted(range(len(logits)), key=lambda e: logits[e])[-self.c["num_experts_per_tok"] :]
        weights = softmax([logits[e] for e in chosen])
        y = [0.0] * len(x)
        for weight, e in zip(weights, chosen):
            up = list(self.get(p + "experts.gate_up_proj_bias").row(e))
            w = self.get(p + "experts.gate_up_proj").block(e)
            for i, value in enumerate(x):
                up = [a + value * b for a, b in zip(up, w.row(i))]
            inner = []
            for gate, linear in zip(up[0::2], up[1::2]):
                gate, linear = min(gate, 7), max(-7, min(linear, 7))
                inner.append((linear + 1) * gate * sigmoid(1.702 * gate))
            out = list(self.get(p + "experts.down_proj_bias").row(e))
            w = self.get(p + "experts.down_proj").block(e)
            for i, value in enumerate(inner):
                out = [a + value * b for a, b in zip(out, w.row(i))]
            y = [a + weight * b for a, b in zip(y, out)]
        return y


# ---- a small model of each family -----------------------------------------------------------------------------------

SIZES = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 20, "vocab_size": 256}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 10}
LATENT = {"kv_lora_rank": 6, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 3, "first_k_dense_replace": 1}
FAMILIES = {
    "bert": {**SIZES, "max_position_embeddings": 16},
    "gpt2": {"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 4, "vocab_size": 256, "n_positions": 16},
    "gpt_neox": {**SIZES, "rotary_pct": 0.5, "use_parallel_residual": True},
    "gpt_neox_serial": {**SIZES, "model_type": "gpt_neox", "rotary_pct": 1.0, "use_parallel_residual": False},
    "llama": {**SIZES, "num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True},
    "llama3": {**SIZES, "model_type": "llama", "num_key_value_heads": 2, "head_dim": 8,
               "rope_scaling": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 0.1, "high_freq_factor": 2.0,
                                "original_max_position_embeddings": 16}},
    "mistral": {**SIZES, "num_key_value_heads": 1, "sliding_window": 5},
    "qwen2": {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**SIZES, "num_key_value_heads": 2, "head_dim": 6},
    "mixtral": {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**SIZES, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 14},
    "qwen3_moe": {**SIZES, **EXPERTS, "num_experts": 4, "head_dim": 4, "norm_topk_prob": True, "mlp_only_layers": [0]},
    "deepseek_v2": {**SIZES, **EXPERTS, **LATENT, "q_lora_rank": None, "n_routed_experts": 4, "routed_scaling_factor": 1.5},
    "deepseek_v3": {**SIZES, **EXPERTS, **LATENT, "q_lora_rank": 5, "n_routed_experts": 8, "n_shared_experts": 1,
                    "n_group": 4, "topk_group": 2},
    "gpt_oss": {**SIZES, "num_key_value_heads": 2, "head_dim": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
                "sliding_window": 5},
}


def run(foretrain, *arguments):
    done = subprocess.run([foretrain, "run", *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr}")
    return json.loads(done.stdout)


def difference(foretrain, folder, family):
    """Relative difference of the two losses."""
    config = {"model_type": family, **FAMILIES[family]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "text").write_bytes(TEXT)
    data = {"path": "text", "validation": "text"}
    job = {
        "version": 1,
        "workload": {"model": "config.json", "seq_len": len(TEXT) - 1, "global_batch": 1, "precision": "fp64", "data": data,
                     "optimizer": {"name": "adamw", "learning_rate": 0.02, "clip": 0}},
        "cluster": {"system": "this-machine"},
    }
    (folder / "job.json").write_text(json.dumps(job))
    # A few steps, so that no bias is zero and no gain is one.
    run(foretrain, folder / "job.json", "--steps", 3, "--save", folder / "saved")
    saved = json.loads((folder / "saved" / "config.json").read_text())
    ours = run(foretrain, folder / "job.json", "--steps", 1, "--weights", folder / "saved")["loss"][0]
    theirs = Model(saved, read_safetensors(folder / "saved" / "model.safetensors")).loss(list(TEXT))
    return abs(ours - theirs) / theirs, ours, theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foretrain", default=str(REPO / "build/release/foretrain"))
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=list(FAMILIES))
    arguments = parser.parse_args()
    failed = 0
    for family in arguments.families:
        with tempfile.TemporaryDirectory() as folder:
            off, ours, theirs = difference(arguments.foretrain, Path(folder), family)
        agrees = off <= TOLERANCE
        failed += not agrees
        print(f"{family:16} loss {ours:.12f}, as the library computes it {theirs:.12f}: {off:.1e} {'' if agrees else 'DIFFERS'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
