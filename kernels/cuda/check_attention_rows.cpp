// Attention of queries and keys wherever they stand, and its bias by distance.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

struct Case {
  AttentionShape shape;
  int64_t key_seq;
  bool packed, biased;  // q, k and v in the same rows
};

// Blocks have 64 queries, tiles 64, 32 or 16 keys; bf16 heads with a bias run on tensor cores up to 128 columns.
const std::vector<Case> kCases = {
    {{.batch = 0, .seq = 5, .heads = 2, .kv_heads = 2, .head_dim = 4, .causal = false}, 3, false, true},
    {{.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .causal = false}, 1, false, true},
    {{.batch = 2, .seq = 7, .heads = 4, .kv_heads = 2, .head_dim = 5, .causal = false}, 3, false, false},
    {{.batch = 1, .seq = 70, .heads = 2, .kv_heads = 1, .head_dim = 64, .causal = false}, 130, false, false},
    {{.batch = 2, .seq = 3, .heads = 2, .kv_heads = 2, .head_dim = 8, .causal = false, .scale = 1}, 130, false, true},
    {{.batch = 1, .seq = 140, .heads = 2, .kv_heads = 1, .head_dim = 8, .causal = false}, 97, false, true},
    {{.batch = 2, .seq = 9, .heads = 2, .kv_heads = 2, .head_dim = 4, .scale = 1}, 9, true, true},
    {{.batch = 2, .seq = 70, .heads = 2, .kv_heads = 2, .head_dim = 64, .scale = 1}, 70, true, true},
    {{.batch = 1, .seq = 70, .heads = 4, .kv_heads = 2, .head_dim = 72, .causal = false, .value_dim = 128},
     70,
     true,
     true},
    {{.batch = 1, .seq = 20, .heads = 2, .kv_heads = 1, .head_dim = 136, .causal = false}, 66, false, true},
};

// In bf16 as attention's own checks.
double factor(Dtype d) {
  return d == Dtype::bf16 ? 2000.0 : 1.0;
}

Doubles zeros(int64_t n) {
  return Doubles(static_cast<std::size_t>(n));
}

template <class T>
T past(T tensor, int64_t elements) {
  using Byte = std::conditional_t<std::is_same_v<T, Tensor>, char, const char>;
  return {static_cast<Byte*>(tensor.data) + size_bytes(tensor.dtype, elements), tensor.dtype};
}

void rows(Bench& bench) {
  for (const Case& c : kCases) {
    const AttentionShape& s = c.shape;
    const int64_t ld_q = c.packed ? s.qkv_cols() : s.q_cols(), ld_kv = c.packed ? s.qkv_cols() : s.kv_cols();
    const AttentionRows at{c.key_seq, ld_q, ld_kv};
    const int64_t behind = c.packed ? s.q_cols() : 0;
    for (const Dtype d : kElementTypes) {
      const std::string what =
          fmt::format("attention of {} x {} queries and {} keys, {}/{} heads of {} and {}{}", s.batch, s.seq, c.key_seq,
                      s.heads, s.kv_heads, s.head_dim, s.v_dim(), c.biased ? ", biased" : "");
      const Array q = Array::random(bench, d, s.tokens() * ld_q, 1, 2.0);
      const Array apart = Array::random(bench, d, c.packed ? 0 : s.batch * c.key_seq * ld_kv, 2, 2.0);
      const Array& kv = c.packed ? q : apart;
      const Array bias = Array::random(bench, wide(d), s.heads * (s.seq + c.key_seq - 1), 3);
      const Array o = Array::unset(bench, d, s.tokens() * s.out_cols());
      const Array lse = Array::unset(bench, wide(d), s.batch * s.heads * s.seq);
      const double* const given_bias = c.biased ? bias.given().data() : nullptr;
      Doubles eo = zeros(o.size()), elses = zeros(lse.size());
      attention_rows_forward(bench.stream(), s, at, q, past(ConstTensor(kv), behind),
                             c.biased ? ConstTensor(bias) : ConstTensor{}, o, lse);
      reference::attention_rows_forward(s, at, q.given().data(), kv.given().data() + behind, given_bias, eo.data(),
                                        elses.data());
      bench.expect(what + ", o", o, eo, factor(d));
      bench.expect(what + ", lse", lse, elses);

      const Array d_o = Array::random(bench, d, o.size(), 4);
      const Array dq = Array::unset(bench, d, q.size()), d_apart = Array::unset(bench, d, apart.size());
      const Array d_bias = Array::random(bench, wide(d), bias.size(), 5);
      const Array& dkv = c.packed ? dq : d_apart;
      Doubles edq = zeros(dq.size()), ed_apart = zeros(apart.size()), ed_bias = d_bias.given();
      attention_rows_backward(bench.stream(), s, at, q, past(ConstTensor(kv), behind),
                              c.biased ? ConstTensor(bias) : ConstTensor{}, o, lse, d_o, dq, past(Tensor(dkv), behind),
                              c.biased ? d_bias.tensor() : Tensor{});
      reference::attention_rows_backward(s, at, q.given().data(), kv.given().data() + behind, given_bias,
                                         o.read().data(), lse.read().data(), d_o.given().data(), edq.data(),
                                         c.packed ? edq.data() + behind : ed_apart.data(),
                                         c.biased ? ed_bias.data() : nullptr);
      bench.expect(what + ", dq", dq, edq, factor(d));
      bench.expect(what + ", dkv", d_apart, ed_apart, factor(d));
      bench.expect(what + ", d_bias", d_bias, ed_bias, factor(d));
    }
  }
}

void relative_biases(Bench& bench) {
  for (const RelativeBiasShape& s :
       {RelativeBiasShape{2, 300, 300, 32, 128, true}, RelativeBiasShape{2, 300, 300, 32, 128, false},
        RelativeBiasShape{1, 1, 1, 4, 3, true}, RelativeBiasShape{3, 5, 700, 9, 20, true},
        RelativeBiasShape{3, 700, 5, 9, 20, false}, RelativeBiasShape{0, 5, 5, 32, 128, true}}) {
    const std::string what = fmt::format("relative_bias of {} and {} tokens, {} buckets", s.seq, s.key_seq, s.buckets);
    for (const Dtype d : kElementTypes) {
      const Array table = Array::random(bench, d, s.heads * s.buckets, 1);
      const Array bias = Array::unset(bench, wide(d), s.heads * s.distances());
      Doubles expected = zeros(bias.size());
      relative_bias_forward(bench.stream(), s, table, bias);
      kernels::relative_bias_forward(s, {table.given().data(), Dtype::fp64}, {expected.data(), Dtype::fp64});
      bench.expect_exact(what, bias, expected);
      const Array d_bias = Array::random(bench, wide(d), bias.size(), 2);
      const Array d_table = Array::random(bench, wide(d), table.size(), 3);
      expected = d_table.given();
      relative_bias_backward(bench.stream(), s, d_bias, d_table);
      kernels::relative_bias_backward(s, {d_bias.given().data(), Dtype::fp64}, {expected.data(), Dtype::fp64});
      bench.expect(what + ", backward", d_table, expected);
    }
  }
}

constexpr Check kChecks[] = {
    {"attention, rows", rows},
    {"attention, rows in packs", in_packs<rows>},
    {"relative bias", relative_biases},
};

}  // namespace

std::span<const Check> attention_rows_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
