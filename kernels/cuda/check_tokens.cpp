// Rotary positions, latent heads, embeddings.
#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

void rotary(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t rotary_dim : {0, 2, 6, 64}) {
      AttentionShape s;
      s.batch = 2;
      s.seq = 5;
      s.heads = 4;
      s.kv_heads = 2;
      s.head_dim = 64;
      for (const bool forward : {true, false}) {
        const Array qkv = Array::random(bench, d, s.tokens() * s.qkv_cols(), 1);
        Doubles expected = qkv.given();
        RotaryFrequencies frequencies(10000.0);
        frequencies.factor = rotary_dim == 64 ? 8.0 : 1.0;
        forward ? reference::rotary_forward(s, rotary_dim, frequencies, 100, expected.data())
                : reference::rotary_backward(s, rotary_dim, frequencies, 100, expected.data());
        (forward ? rotary_forward : rotary_backward)(bench.stream(), s, rotary_dim, frequencies, 100, qkv);
        bench.expect(fmt::format("rotary of {} columns", rotary_dim), qkv, expected);
      }
    }
  }
  const Array nothing(bench, Dtype::fp32, {});
  rotary_forward(bench.stream(), {}, 0, 1e4, 0, nothing);
}

ConstTensor on_host(const Doubles& x) {
  return {x.data(), Dtype::fp64};
}
Tensor on_host(Doubles& x) {
  return {x.data(), Dtype::fp64};
}

void latent_heads(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const LatentHeadsShape s : {LatentHeadsShape{0, 4, 2, 8, 4, 8}, LatentHeadsShape{2, 3, 5, 48, 16, 40, 7},
                                     LatentHeadsShape{1, 1, 1, 0, 2, 1}}) {
      const Array q = Array::random(bench, d, s.tokens() * s.q_cols(), 1);
      const Array kv = Array::random(bench, d, s.tokens() * s.kv_cols(), 2);
      const Array k_rope = Array::random(bench, d, s.tokens() * s.rope_dim, 3);
      const Array qkv = Array::unset(bench, d, s.tokens() * s.qkv_cols());
      latent_heads_forward(bench.stream(), s, 1e4, q, kv, k_rope, qkv);
      Doubles expected(static_cast<std::size_t>(s.tokens() * s.qkv_cols()));
      kernels::latent_heads_forward(s, 1e4, on_host(q.given()), on_host(kv.given()), on_host(k_rope.given()),
                                    on_host(expected));
      bench.expect("latent_heads", qkv, expected);
      const Array dqkv = Array::random(bench, d, s.tokens() * s.qkv_cols(), 4);
      const Array dq = Array::unset(bench, d, q.size()), dkv = Array::unset(bench, d, kv.size()),
                  dk_rope = Array::unset(bench, d, k_rope.size());
      latent_heads_backward(bench.stream(), s, 1e4, dqkv, dq, dkv, dk_rope);
      Doubles edq = q.given(), edkv = kv.given(), edk_rope = k_rope.given();
      kernels::latent_heads_backward(s, 1e4, on_host(dqkv.given()), on_host(edq), on_host(edkv), on_host(edk_rope));
      bench.expect("latent_heads, dq", dq, edq);
      bench.expect("latent_heads, dkv", dkv, edkv);
      bench.expect("latent_heads, dk_rope", dk_rope, edk_rope);
    }
  }
}

// Shards of a vocabulary that takes one byte, two, and three; words that come often and words of other shards.
void embeddings(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t vocab_rows : {1, 40, 300, 70000}) {
      for (const int64_t tokens : {0, 1, 24, 2400}) {
        if ((vocab_rows > 300) != (tokens == 2400)) {
          continue;
        }
        const int64_t cols = tokens == 2400 ? 3 : 70;
        const EmbeddingShape s{tokens, 6, cols, 10, vocab_rows, 2};
        Ids ids = random_ids(tokens, static_cast<std::int32_t>(vocab_rows) + 20, 1);
        for (std::size_t i = 0; i < ids.size(); i += 3) {
          ids[i] = 10;
        }
        const Table device_ids(bench, ids);
        for (const Dtype parameter : parameter_types(d)) {
          const Array wte = Array::random(bench, parameter, vocab_rows * cols, 2);
          const Array wpe = Array::random(bench, parameter, 8 * cols, 3);
          for (const bool positions : {false, true}) {
            const Array out = Array::unset(bench, d, tokens * cols);
            Doubles expected(static_cast<std::size_t>(tokens * cols));
            embedding_forward(bench.stream(), s, device_ids, wte, positions ? ConstTensor(wpe) : ConstTensor{}, out);
            reference::embedding_forward(s, ids.data(), wte.given().data(), positions ? wpe.given().data() : nullptr,
                                         expected.data());
            bench.expect(fmt::format("embedding of {} tokens in {} rows", tokens, vocab_rows), out, expected);
          }
        }
        const Array dout = Array::random(bench, d, tokens * cols, 4);
        const Array dwte = Array::random(bench, wide(d), vocab_rows * cols, 5);
        const Array dwpe = Array::random(bench, wide(d), 8 * cols, 6);
        Doubles edwte = dwte.given(), edwpe = dwpe.given();
        if (d == Dtype::fp64) {
          reference::embedding_backward(s, ids.data(), dout.given().data(), edwte.data(), edwpe.data());
        } else {  // in fp32 and in token order, to the bit
          const std::vector<float> x(dout.given().begin(), dout.given().end());
          std::vector<float> words(edwte.begin(), edwte.end()), places(edwpe.begin(), edwpe.end());
          reference::embedding_backward(s, ids.data(), x.data(), words.data(), places.data());
          edwte.assign(words.begin(), words.end());
          edwpe.assign(places.begin(), places.end());
        }
        embedding_backward(bench.stream(), s, device_ids, dout, dwte, dwpe);
        bench.expect_exact(fmt::format("embedding_backward of {} tokens in {} rows", tokens, vocab_rows), dwte, edwte);
        bench.expect_exact("embedding_backward, positions", dwpe, edwpe);
      }
    }
  }
}

void output_losses(Bench& bench) {
  for (const OutputLoss kind : {OutputLoss::squared_error, OutputLoss::binary_cross_entropy}) {
    for (const Dtype d : kElementTypes) {
      for (const int64_t n : kCounts) {
        const Array y = Array::random(bench, d, n, 1, 9.0), target = Array::random(bench, d, n, 2);
        const Array dy = Array::unset(bench, d, n), loss(bench, Dtype::fp64, {0.5});
        Doubles expected(static_cast<std::size_t>(n));
        const double sum = reference::output_loss_forward(kind, n, y.given().data(), target.given().data(), 0.3);
        reference::output_loss_backward(kind, n, y.given().data(), target.given().data(), 0.3, expected.data());
        output_loss_forward(bench.stream(), kind, n, y, target, 0.3, static_cast<double*>(loss.tensor().data));
        bench.expect("output_loss", loss, {0.5 + sum});
        output_loss_backward(bench.stream(), kind, n, y, target, 0.3, dy);
        bench.expect("output_loss, backward", dy, expected);
        output_loss_backward(bench.stream(), kind, n, y, target, 0.3, y);
        bench.expect("output_loss, backward in place", y, expected);
      }
    }
  }
}

constexpr Check kChecks[] = {
    {"rotary", rotary}, {"latent_heads", latent_heads}, {"embedding", embeddings}, {"output_loss", output_losses}};

}  // namespace

std::span<const Check> token_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
