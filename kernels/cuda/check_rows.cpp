// Norms and cross entropy: what sums over a row.
#include <cmath>
#include <limits>

#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

void norms(Bench& bench) {
  for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
    for (const Dtype d : kElementTypes) {
      for (const Dtype parameter : parameter_types(d)) {
        for (const int64_t cols : {1, 3, 256, 300, 1032}) {
          for (const int64_t rows : {0, 1, cols == 3 ? 140 : 2}) {
            const bool centred = kind == NormKind::layernorm;
            const NormShape s{kind, rows, cols, 1e-5};
            const Array x = Array::random(bench, d, rows * cols, 1, 3.0), dy = Array::random(bench, d, rows * cols, 2);
            const Array gain = Array::random(bench, parameter, cols, 3),
                        bias = Array::random(bench, parameter, cols, 4);
            const Array base = Array::random(bench, d, rows * cols, 5), y = Array::unset(bench, d, rows * cols);
            const Array mean = Array::unset(bench, wide(d), rows), rstd = Array::unset(bench, wide(d), rows);
            norm_forward(bench.stream(), s, x, gain, centred ? ConstTensor(bias) : ConstTensor{}, y, mean, rstd);
            Doubles ey(x.given().size()), emean(static_cast<std::size_t>(rows)), erstd(emean);
            reference::norm_forward(s, x.given().data(), gain.given().data(), centred ? bias.given().data() : nullptr,
                                    ey.data(), emean.data(), erstd.data());
            const std::string what = fmt::format("norm of {} x {}", rows, cols);
            bench.expect(what, y, ey);
            bench.expect(what + ", rstd", rstd, erstd);
            if (centred) {
              bench.expect(what + ", mean", mean, emean);
            }
            if (cols == 1) {
              continue;  // a gradient of 0, of large numbers: nothing but rounding
            }
            const Array dx = Array::unset(bench, d, rows * cols);
            norm_backward_input(bench.stream(), s, x, gain, dy, mean, rstd, {}, dx);
            Doubles edx(x.given().size());
            reference::norm_backward_input(s, x.given().data(), gain.given().data(), dy.given().data(), emean.data(),
                                           erstd.data(), edx.data(), false);
            bench.expect(what + ", backward", dx, edx, 10);
            Doubles added = base.given();
            reference::norm_backward_input(s, x.given().data(), gain.given().data(), dy.given().data(), emean.data(),
                                           erstd.data(), added.data(), true);
            norm_backward_input(bench.stream(), s, x, gain, dy, mean, rstd, base, base);
            bench.expect(what + ", backward added", base, added, 10);
            const Array dgain = Array::random(bench, wide(d), cols, 6), dbias = Array::random(bench, wide(d), cols, 7);
            for (const bool accumulate : {true, false}) {
              Doubles edgain = dgain.given(), edbias = dbias.given();
              reference::norm_backward_weight(s, x.given().data(), dy.given().data(), emean.data(), erstd.data(),
                                              edgain.data(), edbias.data(), accumulate);
              norm_backward_weight(bench.stream(), s, x, dy, mean, rstd, dgain,
                                   centred ? dbias.tensor() : Tensor{nullptr, wide(d)}, accumulate);
              bench.expect(what + ", gain", dgain, edgain, 10);
              if (centred) {
                bench.expect(what + ", bias", dbias, edbias, 10);
              }
            }
            norm_backward_input(bench.stream(), s, x, gain, dy, mean, rstd, {}, dy);
            bench.expect(what + ", backward over dy", dy, edx, 10);
          }
        }
      }
    }
  }
}

void head_norms(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const Dtype parameter : parameter_types(d)) {
      for (const HeadNormShape s : {HeadNormShape{0, 2, 1, 8}, HeadNormShape{1, 1, 1, 1}, HeadNormShape{33, 4, 2, 48},
                                    HeadNormShape{2, 3, 3, 130}}) {
        const Array qkv = Array::random(bench, d, s.rows * s.qkv_cols(), 1, 2.0);
        const Array q_gain = Array::random(bench, parameter, s.head_dim, 2);
        const Array k_gain = Array::random(bench, parameter, s.head_dim, 3);
        const Array raw = Array::unset(bench, d, s.rows * s.raw_cols());
        Doubles eqkv = qkv.given(), eraw(static_cast<std::size_t>(s.rows * s.raw_cols()));
        reference::head_norm_forward(s, q_gain.given().data(), k_gain.given().data(), eqkv.data(), eraw.data());
        head_norm_forward(bench.stream(), s, q_gain, k_gain, qkv, raw);
        bench.expect("head_norm", qkv, eqkv);
        bench.expect_exact("head_norm, raw", raw, eraw);
        const Array dqkv = Array::random(bench, d, s.rows * s.qkv_cols(), 4);
        const Array dq_gain = Array::random(bench, wide(d), s.head_dim, 5);
        const Array dk_gain = Array::random(bench, wide(d), s.head_dim, 6);
        Doubles edqkv = dqkv.given(), edq = dq_gain.given(), edk = dk_gain.given();
        reference::head_norm_backward_weight(s, eraw.data(), edqkv.data(), edq.data(), edk.data());
        reference::head_norm_backward_input(s, eraw.data(), q_gain.given().data(), k_gain.given().data(), edqkv.data());
        head_norm_backward_weight(bench.stream(), s, raw, dqkv, dq_gain, dk_gain);
        head_norm_backward_input(bench.stream(), s, raw, q_gain, k_gain, dqkv);
        bench.expect("head_norm, query gain", dq_gain, edq, 10);
        bench.expect("head_norm, key gain", dk_gain, edk, 10);
        bench.expect("head_norm, backward", dqkv, edqkv, 10);
      }
    }
  }
}

// A vocabulary in three shards, the last one with padding and one that is padding alone; `rows` predictions.
void cross_entropies(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t cols : {1, 31, 304}) {
      for (const int64_t rows : {0, 1, 5, 300}) {
        if (rows == 300 && cols > 1) {
          continue;  // nothing new, and long
        }
        constexpr int64_t kParts = 3;
        const int64_t words = 2 * cols - cols / 2;
        const double scale = 1.0 / static_cast<double>(rows + 1);
        Ids targets = random_ids(rows, static_cast<std::int32_t>(words), 7);
        for (std::size_t i = 0; i < targets.size(); i += 4) {
          targets[i] = -1;
        }
        const Table device_targets(bench, targets);
        Doubles estats;
        std::vector<Array> logits;
        std::vector<CrossEntropyShape> shapes;
        for (int64_t part = 0; part < kParts; ++part) {
          const int64_t start = part * cols;
          const int64_t valid = words - start < 0 ? 0 : words - start < cols ? words - start : cols;
          shapes.push_back({rows, cols, valid, start});
          logits.push_back(Array::random(bench, d, rows * cols, static_cast<unsigned>(part) + 1, 12.0));
          const Array stats = Array::unset(bench, wide(d), rows * 3);
          cross_entropy_stats(bench.stream(), shapes.back(), logits.back(), device_targets, stats);
          Doubles expected(static_cast<std::size_t>(rows * 3));
          reference::cross_entropy_stats(shapes.back(), logits.back().given().data(), targets.data(), expected.data());
          bench.expect(fmt::format("cross_entropy_stats of {} x {}", rows, valid), stats, expected);
          estats.insert(estats.end(), expected.begin(), expected.end());
        }
        const Array stats(bench, wide(d), estats), row_stats = Array::unset(bench, wide(d), rows * 2);
        const Array loss(bench, Dtype::fp64, {0.5});
        Doubles erow(static_cast<std::size_t>(rows * 2));
        double eloss = 0.5;
        reference::cross_entropy_combine(rows, kParts, stats.given().data(), scale, &eloss, true, erow.data());
        cross_entropy_combine(bench.stream(), rows, kParts, stats, scale, static_cast<double*>(loss.tensor().data),
                              true, row_stats);
        bench.expect("cross_entropy_combine", row_stats, erow);
        bench.expect("loss", loss, {eloss}, 10);
        for (std::size_t part = 0; part < kParts; ++part) {
          Doubles expected = logits[part].given();
          reference::cross_entropy_backward(shapes[part], expected.data(), targets.data(), row_stats.read().data(),
                                            scale);
          const Array gradient = Array::unset(bench, d, rows * cols);
          cross_entropy_backward(bench.stream(), shapes[part], logits[part], device_targets, row_stats, scale,
                                 gradient);
          cross_entropy_backward(bench.stream(), shapes[part], logits[part], device_targets, row_stats, scale,
                                 logits[part]);
          bench.expect("cross_entropy_backward", gradient, expected);
          bench.expect("cross_entropy_backward in place", logits[part], expected);
        }
      }
    }
  }
}

constexpr Check kChecks[] = {
    {"norm", norms},
    {"norm, in packs", in_packs<norms>},
    {"head_norm", head_norms},
    {"cross_entropy", cross_entropies},
    {"cross_entropy, in packs", in_packs<cross_entropies>},
};

}  // namespace

std::span<const Check> row_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
