"""The models of scripts/torch-parity and scripts/torch-speed in plain PyTorch: a GPT-2 (learned positions, LayerNorm, gelu in
its tanh form, tied table), a BERT with its masked-LM head (norms behind, a token sees all others) or one that tells classes of padded sequences, a T5 (an encoder and a decoder, logits by distance), a Llama (rotary positions in halves, RMSNorm, SwiGLU, grouped queries) and a Mixtral (the same
with experts, of which a token passes the best few). Parameters carry the names of Hugging Face checkpoints, but every
weight is [out, in], so GPT-2's projections are theirs transposed. A model returns the mean cross entropy."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def attention(q, k, v, causal=True, lengths=None):
    """q [batch, heads, seq, dim]; k and v with heads or fewer: softmax(q k^T / sqrt(dim)) v, tokens' heads side by side; of sequences
    with lengths the keys up to them."""
    batch, heads, seq, dim = q.shape
    k, v = (t.repeat_interleave(heads // t.shape[1], dim=1) for t in (k, v))
    hidden = torch.full((seq, seq), causal).triu(1)
    if lengths is not None:
        hidden = (torch.arange(seq) >= lengths[:, None])[:, None, None]
    scores = (q @ k.transpose(-2, -1)) * dim**-0.5
    out = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
    return out.transpose(1, 2).reshape(batch, seq, heads * dim)


def split_heads(x, dim):
    return x.view(x.shape[0], x.shape[1], -1, dim).transpose(1, 2)


class Gpt2Block(nn.Module):
    def __init__(self, hidden, heads, ffn):
        super().__init__()
        self.dim = hidden // heads
        self.ln_1, self.ln_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(hidden, 3 * hidden), "c_proj": nn.Linear(hidden, hidden)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(hidden, ffn), "c_proj": nn.Linear(ffn, hidden)})

    def forward(self, x):
        q, k, v = (split_heads(t, self.dim) for t in self.attn["c_attn"](self.ln_1(x)).chunk(3, -1))
        x = x + self.attn["c_proj"](attention(q, k, v))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, vocab, positions, layers, hidden, heads, ffn):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte, self.transformer.wpe = nn.Embedding(vocab, hidden), nn.Embedding(positions, hidden)
        self.transformer.h = nn.ModuleList(Gpt2Block(hidden, heads, ffn) for _ in range(layers))
        self.transformer.ln_f = nn.LayerNorm(hidden)

    def forward(self, ids, targets):
        t = self.transformer
        x = t.wte(ids) + t.wpe(torch.arange(ids.shape[1]))
        for block in t.h:
            x = block(x)
        return F.cross_entropy(F.linear(t.ln_f(x), t.wte.weight).flatten(0, 1), targets.flatten())


class BertLayer(nn.Module):
    def __init__(self, hidden, heads, ffn, eps):
        super().__init__()
        self.dim = hidden // heads
        norm = lambda: nn.LayerNorm(hidden, eps)
        self.attention = nn.ModuleDict({
            "self": nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}),
            "output": nn.ModuleDict({"dense": nn.Linear(hidden, hidden), "LayerNorm": norm()})})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, ffn)})
        self.output = nn.ModuleDict({"dense": nn.Linear(ffn, hidden), "LayerNorm": norm()})

    def forward(self, x, lengths=None):
        qkv = (split_heads(self.attention["self"][name](x), self.dim) for name in ("query", "key", "value"))
        out = self.attention["output"]
        x = out["LayerNorm"](x + out["dense"](attention(*qkv, causal=False, lengths=lengths)))
        return self.output["LayerNorm"](x + self.output["dense"](F.gelu(self.intermediate["dense"](x))))


class Bert(nn.Module):
    """With targets of -1 where no token is to be told; all tokens are of type 0."""

    def __init__(self, vocab, positions, types, layers, hidden, heads, ffn, eps):
        super().__init__()
        self.bert, self.cls = nn.Module(), nn.Module()
        self.bert.embeddings = nn.ModuleDict({
            "word_embeddings": nn.Embedding(vocab, hidden), "position_embeddings": nn.Embedding(positions, hidden),
            "token_type_embeddings": nn.Embedding(types, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)})
        self.bert.encoder = nn.ModuleDict({"layer": nn.ModuleList(BertLayer(hidden, heads, ffn, eps) for _ in range(layers))})
        self.cls.predictions = nn.Module()
        self.cls.predictions.bias = nn.Parameter(torch.zeros(vocab))
        self.cls.predictions.transform = nn.ModuleDict({"dense": nn.Linear(hidden, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)})

    def encoded(self, ids, lengths=None):
        e = self.bert.embeddings
        x = e["word_embeddings"](ids) + e["position_embeddings"](torch.arange(ids.shape[1])) + e["token_type_embeddings"].weight[0]
        x = e["LayerNorm"](x)
        for layer in self.bert.encoder["layer"]:
            x = layer(x, lengths)
        return x

    def forward(self, ids, targets):
        head, words = self.cls.predictions, self.bert.embeddings["word_embeddings"]
        x = self.encoded(ids)
        x = head.transform["LayerNorm"](F.gelu(head.transform["dense"](x)))
        return F.cross_entropy(F.linear(x, words.weight, head.bias).flatten(0, 1), targets.flatten(), ignore_index=-1)


class BertClassifier(Bert):
    """Of padded sequences: targets are their lengths and classes."""

    def __init__(self, vocab, positions, types, layers, hidden, heads, ffn, eps, classes):
        super().__init__(vocab, positions, types, layers, hidden, heads, ffn, eps)
        del self.cls
        self.bert.pooler = nn.ModuleDict({"dense": nn.Linear(hidden, hidden)})
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, ids, targets):
        lengths, classes = targets
        pooled = torch.tanh(self.bert.pooler["dense"](self.encoded(ids, lengths)[:, 0]))
        return F.cross_entropy(self.classifier(pooled), classes)


def relative_bias(table, queries, keys, both):
    """T5's logits by distance, [heads, queries, keys], from a table [buckets, heads] up to a distance of 16."""
    buckets = table.shape[0]
    distance = torch.arange(keys)[None] - torch.arange(queries)[:, None]
    first = torch.zeros_like(distance)
    if both:
        buckets //= 2
        first, distance = (distance > 0) * buckets, distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    further = exact + (torch.log(distance.clamp(min=1).float() / exact) / math.log(16 / exact) * (buckets - exact)).long()
    return table[first + torch.where(distance < exact, distance, further.clamp(max=buckets - 1))].permute(2, 0, 1)


class T5Attention(nn.Module):
    def __init__(self, hidden, heads, dim, buckets):
        super().__init__()
        self.dim = dim
        self.q, self.k, self.v = (nn.Linear(hidden, heads * dim, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * dim, hidden, bias=False)
        if buckets:
            self.relative_attention_bias = nn.Embedding(buckets, heads)

    def forward(self, x, read, bias):
        q, k, v = (split_heads(t, self.dim) for t in (self.q(x), self.k(read), self.v(read)))
        out = (q @ k.transpose(-2, -1) + bias).softmax(-1) @ v
        return self.o(out.transpose(1, 2).flatten(2))


class T5Block(nn.Module):
    def __init__(self, hidden, heads, dim, ffn, eps, buckets, decodes):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        halves = {"SelfAttention": T5Attention(hidden, heads, dim, buckets)}
        if decodes:
            halves["EncDecAttention"] = T5Attention(hidden, heads, dim, 0)
        halves["DenseReluDense"] = nn.ModuleDict({"wi": linear(hidden, ffn), "wo": linear(ffn, hidden)})
        self.layer = nn.ModuleList(nn.ModuleDict({name: half, "layer_norm": RmsNorm(hidden, eps)}) for name, half in halves.items())

    def forward(self, x, encoded, bias):
        for part in self.layer:
            y = part["layer_norm"](x)
            if "SelfAttention" in part:
                x = x + part["SelfAttention"](y, y, bias)
            elif "EncDecAttention" in part:
                x = x + part["EncDecAttention"](y, encoded, 0)
            else:
                x = x + part["DenseReluDense"]["wo"](F.relu(part["DenseReluDense"]["wi"](y)))
        return x


class T5(nn.Module):
    """Reads the first tokens of a sequence and tells the last `told`, behind the token 0; a tied table."""

    def __init__(self, vocab, layers, hidden, heads, dim, ffn, eps, buckets, told):
        super().__init__()
        self.told, self.hidden, self.shared = told, hidden, nn.Embedding(vocab, hidden)
        self.encoder, self.decoder = (nn.ModuleDict({
            "block": nn.ModuleList(T5Block(hidden, heads, dim, ffn, eps, 0 if i else buckets, decodes) for i in range(layers)),
            "final_layer_norm": RmsNorm(hidden, eps)}) for decodes in (False, True))

    def side(self, side, ids, encoded):
        x = self.shared(ids)
        table = side["block"][0].layer[0]["SelfAttention"].relative_attention_bias.weight
        bias = relative_bias(table, ids.shape[1], ids.shape[1], encoded is None)
        if encoded is not None:
            bias = bias.masked_fill(torch.full(bias.shape[1:], True).triu(1), float("-inf"))
        for block in side["block"]:
            x = block(x, encoded, bias)
        return side["final_layer_norm"](x)

    def forward(self, ids, _):
        told = ids[:, -self.told :]
        read = torch.cat((torch.zeros_like(told[:, :1]), told[:, :-1]), 1)
        x = self.side(self.decoder, read, self.side(self.encoder, ids[:, : -self.told], None)) * self.hidden**-0.5
        return F.cross_entropy(F.linear(x, self.shared.weight).flatten(0, 1), told.flatten())


class RmsNorm(nn.Module):
    def __init__(self, hidden, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(hidden)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, base=10000.0):
    dim, seq = x.shape[-1], x.shape[-2]
    angle = torch.arange(seq, dtype=torch.float64)[:, None] * base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x.chunk(2, -1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


class Experts(nn.Module):
    """Each token passes the top_k experts of largest softmax, weighted by it as a share of theirs."""

    def __init__(self, hidden, ffn, experts, top_k):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.top_k, self.gate = top_k, linear(hidden, experts)
        self.experts = nn.ModuleList(
            nn.ModuleDict({"w1": linear(hidden, ffn), "w2": linear(ffn, hidden), "w3": linear(hidden, ffn)}) for _ in range(experts))

    def forward(self, x):
        score = self.gate(x).softmax(-1)
        best, chosen = score.topk(self.top_k, -1)
        weight = torch.zeros_like(score).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
        return sum(weight[..., e, None] * f["w2"](F.silu(f["w1"](x)) * f["w3"](x)) for e, f in enumerate(self.experts))


class Mlp(nn.Module):
    def __init__(self, hidden, ffn):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, ffn), linear(hidden, ffn), linear(ffn, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn, eps, moe):
        super().__init__()
        self.dim = hidden // heads
        kv = kv_heads * self.dim
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.self_attn = nn.ModuleDict(
            {"q_proj": linear(hidden, hidden), "k_proj": linear(hidden, kv), "v_proj": linear(hidden, kv), "o_proj": linear(hidden, hidden)})
        self.ffn = "block_sparse_moe" if moe else "mlp"
        self.add_module(self.ffn, Experts(hidden, ffn, **moe) if moe else Mlp(hidden, ffn))
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(hidden, eps), RmsNorm(hidden, eps)

    def forward(self, x):
        a, y = self.self_attn, self.input_layernorm(x)
        q, k, v = (split_heads(a[name](y), self.dim) for name in ("q_proj", "k_proj", "v_proj"))
        x = x + a["o_proj"](attention(rotate(q), rotate(k), v))
        return x + self._modules[self.ffn](self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, vocab, layers, hidden, heads, kv_heads, ffn, eps, moe=None):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocab, hidden)
        self.model.layers = nn.ModuleList(LlamaLayer(hidden, heads, kv_heads, ffn, eps, moe) for _ in range(layers))
        self.model.norm = RmsNorm(hidden, eps)
        self.lm_head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, ids, targets):
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        return F.cross_entropy(self.lm_head(self.model.norm(x)).flatten(0, 1), targets.flatten())
