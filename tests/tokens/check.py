#!/usr/bin/env python3
"""Tokenizers and files of token ids against an independent encoder: trains byte pair encodings on a text, has foretrain
train on that text through the tokenizer, and on the ids as this script encodes them, in each binary format. Losses are
equal in every digit only where every id is.

    tests/tokens/check.py [--foretrain build/release/foretrain]

Exit status: 0 all agree, 1 some do not.
"""

import argparse
import collections
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MERGES = 150
SPACE = "\u2581"

# The patterns of GPT-2 and Llama 3 for ASCII text, in which letters and digits need no tables.
GPT2 = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


def alphabet():
    """The characters that stand for bytes."""
    names, spare = {}, 0
    for byte in range(256):
        prints = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        names[byte] = chr(byte if prints else 0x100 + spare)
        spare += not prints
    return names


ALPHABET = alphabet()


def train(words, symbols_of):
    """The most frequent pairs, one after the other."""
    counts = collections.Counter(words)
    symbols = {word: symbols_of(word) for word in counts}
    merges = []
    for _ in range(MERGES):
        pairs = collections.Counter()
        for word, parts in symbols.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        symbols = {word: merged(parts, {merges[-1]: 0}) for word, parts in symbols.items()}
    return merges


def merged(parts, rank):
    """The pair of the lowest rank, the leftmost first, until none has a rank."""
    parts = list(parts)
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: rank.get((parts[i], parts[i + 1]), len(rank)))
        if (parts[best], parts[best + 1]) not in rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def encode(words, symbols_of, vocab, merges):
    rank = {pair: i for i, pair in enumerate(merges)}
    known = {}
    ids = []
    for word in words:
        if word not in known:
            known[word] = [vocab[part] for part in merged(symbols_of(word), rank)]
        ids += known[word]
    return ids


def over_bytes(text, pattern):
    """tokenizer.json, and the ids of the text."""
    words = re.findall(pattern[1], text)
    symbols_of = lambda word: [ALPHABET[byte] for byte in word.encode()]
    merges = train(words, symbols_of)
    vocab = {name: i for i, name in enumerate(list(ALPHABET.values()) + [a + b for a, b in merges])}
    cut = {"type": "Split", "pattern": {"Regex": pattern[0]}, "behavior": "Isolated", "invert": False}
    file = {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]},
    }
    return file, encode(words, symbols_of, vocab, merges)


def over_characters(text):
    spaced = SPACE + text.replace(" ", SPACE)
    words = re.findall(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+", spaced)
    merges = train(words, list)
    letters = sorted(set(spaced) - set("\n"))  # a line end has bytes only
    names = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)] + letters + [a + b for a, b in merges]
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = [(a, b) for a, b in merges if "\n" not in a + b]
    symbols_of = lambda word: [c if c in vocab else f"<0x{ord(c):02X}>" for c in word]
    replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    file = {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace(" ", SPACE)]},
        "decoder": {"type": "Sequence", "decoders": [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True, "vocab": vocab,
                  "merges": [list(pair) for pair in merges]},
    }
    return file, encode(words, symbols_of, vocab, merges)


def write_ids(folder, ids):
    """The ids in each binary format; the words that name them on the command line."""
    short, wide = struct.pack(f"<{len(ids)}H", *ids), struct.pack(f"<{len(ids)}I", *ids)
    header = lambda magic, version: struct.pack("<3i", magic, version, len(ids)).ljust(1024, b"\0")
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 2, 3) + struct.pack("<2i", 100, len(ids) - 100)
    files = {"gpt2.bin": header(20240520, 1) + short, "llama3.bin": header(20240801, 7) + wide, "short": short,
             "wide": wide, "megatron.bin": short,
             "megatron.idx": index + struct.pack("<2q", 0, 200) + struct.pack("<3q", 0, 1, 2)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {"gpt2.bin": [], "llama3.bin": [], "short": ["workload.data.format=uint16"],
            "wide": ["workload.data.format=uint32"], "megatron": []}


def losses(foretrain, *words):
    done = subprocess.run([foretrain, "run", *map(str, words), "--steps", "3", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    result = json.loads(done.stdout)
    return result["loss"] + [result["validation_loss"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foretrain", default=str(REPO / "build/release/foretrain"))
    foretrain = parser.parse_args().foretrain
    text = (REPO / "CONTRIBUTING.md").read_text().encode("ascii", "ignore").decode() + "It's  12345 o'clock\t\n\n 'LL\n"
    model = {"layers": 1, "hidden": 16, "heads": 2, "ffn_hidden": 16, "vocab": 600}
    job = {"version": 1, "workload": {"model": model, "seq_len": 8, "global_batch": 4, "precision": "fp32"},
           "cluster": {"system": "this-machine"}}
    failed = 0
    for name, (file, ids) in {"GPT-2's pattern": over_bytes(text, GPT2), "Llama 3's pattern": over_bytes(text, LLAMA3),
                              "characters": over_characters(text)}.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "tokenizer.json").write_text(json.dumps(file))
            (folder / "job.json").write_text(json.dumps(job))
            (folder / "text").write_text(text)
            ours = losses(foretrain, folder / "job.json", "--data", folder / "text", "--tokenizer", folder)
            for data, words in write_ids(folder, ids).items():
                same = losses(foretrain, folder / "job.json", *words, "--data", folder / data) == ours
                failed += not same
                print(f"{name}, {len(text)} characters as {len(ids)} ids in {data}: {'equal' if same else 'DIFFERS'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
