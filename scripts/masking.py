"""The data of a masked language model as exec/load_tokens.cpp and exec/data.cpp make it, in plain Python: which window of a text is
which sequence of a step, which of its tokens are masked, and what stands there; and a classifier's, as exec/keywords.cpp makes it."""

MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1


def mix(z):
    """SplitMix64 (Steele, Lea, Flood 2014)."""
    z = (z + 0x9E3779B97F4A7C15) & MASK64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK64
    return z ^ (z >> 31)


def permuted(index, size, key):
    """Element of a permutation of range(size): a Feistel network, walked until it lands inside."""
    half = 1
    while half < 31 and 1 << 2 * half < size:
        half += 1
    mask, x = (1 << half) - 1, index
    while True:
        left, right = x >> half, x & mask
        for r in range(4):
            left, right = right, left ^ (mix(key ^ mix(r << 32 | right)) & mask)
        x = left << half | right
        if x < size:
            return x


def philox(key, low, high):
    """Philox4x32-10 (Salmon et al. 2011): two words of 64 bits."""
    k = [key & MASK32, key >> 32]
    x = [low & MASK32, low >> 32, high & MASK32, high >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(p1 >> 32) ^ x[1] ^ k[0], p1 & MASK32, (p0 >> 32) ^ x[3] ^ k[1], p0 & MASK32]
        k = [(k[0] + 0x9E3779B9) & MASK32, (k[1] + 0xBB67AE85) & MASK32]
    return x[1] << 32 | x[0], x[3] << 32 | x[2]


def window(index, windows, seed=1):
    """Of the first epoch, the window that is sequence `index`."""
    return permuted(index, windows, mix(seed))


def masked(ids, index, count, token, vocab, step=0):
    """Inputs and targets of a sequence; a target of -1 is none."""
    own = philox(0x6D61736B, step, index)[0]
    inputs, targets = list(ids), [-1] * len(ids)
    for i in range(count):
        position = permuted(i, len(ids), own)
        targets[position] = ids[position]
        what, which = ((bits >> 12) * 2.0**-52 for bits in philox(own, position, 0))
        if what < 0.8:
            inputs[position] = token
        elif what < 0.8 + 0.1:
            inputs[position] = int(which * vocab)
    return inputs, targets


def keywords(item, seq_len, vocab, classes, seed=1):
    """A padded sequence, its length and its class."""
    draw = lambda which: (philox(seed ^ 0x6B657977 << 32, item, which)[0] >> 12) * 2.0**-52
    between = lambda first, past, which: first + int(draw(which) * (past - first))
    length, told = between(max(2, seq_len // 4), seq_len + 1, 0), between(0, classes, 1)
    ids = [1] + [between(2 + classes, vocab, 2 + t) for t in range(1, length)] + [0] * (seq_len - length)
    ids[between(1, length, 2)] = 2 + told
    return ids, length, told
