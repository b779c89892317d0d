// Mixtures of experts, against the CPU's launchers in fp64.
#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

ConstTensor on_host(const Doubles& x) {
  return {x.data(), Dtype::fp64};
}
Tensor on_host(Doubles& x) {
  return {x.data(), Dtype::fp64};
}
Doubles zeros(int64_t n) {
  return Doubles(static_cast<std::size_t>(n));
}
Ids none(int64_t n) {
  return Ids(static_cast<std::size_t>(n), -7);
}

void gate(Bench& bench, GateShape s, Dtype d) {
  const int64_t parts = 2;
  const Array logits = Array::random(bench, d, s.tokens * s.experts, 1, 3.0);
  const Array scores = Array::unset(bench, d, logits.size()), weights = Array::unset(bench, d, s.tokens * s.top_k);
  const Table chosen(bench, none(s.tokens * s.top_k));
  gate_forward(bench.stream(), s, logits, scores, weights, chosen);
  Doubles escores = zeros(logits.size()), eweights = zeros(weights.size());
  Ids echosen = none(s.tokens * s.top_k);
  kernels::gate_forward(s, on_host(logits.given()), on_host(escores), on_host(eweights), echosen.data());
  const std::string what = fmt::format("gate of {} in {} experts, {} groups", s.top_k, s.experts, s.groups);
  bench.expect(what + ", scores", scores, escores);
  bench.expect_ids(what + ", chosen", chosen, echosen);
  bench.expect(what + ", weights", weights, eweights);
  const Array dweights = Array::random(bench, d, weights.size(), 2);
  const Ids counts = random_ids(parts * s.experts, 9, 3);
  const Table device_counts(bench, counts);
  for (const double balance : {0.0, 0.3}) {
    const Array dlogits = Array::unset(bench, d, logits.size());
    Doubles expected = zeros(logits.size());
    kernels::gate_backward(s, on_host(escores), echosen.data(), on_host(dweights.given()), balance, counts.data(),
                           parts, on_host(expected));
    gate_backward(bench.stream(), s, scores, chosen, dweights, balance, device_counts, parts, dlogits);
    bench.expect(what + ", backward", dlogits, expected, 10);
  }
}

void gates(Bench& bench) {
  for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
    for (const Router router : {Router::softmax, Router::sigmoid}) {
      for (const bool normalize : {true, false}) {
        for (GateShape s : {GateShape{0, 4, 2}, GateShape{1, 1, 1}, GateShape{19, 5, 2}, GateShape{9, 70, 8},
                            GateShape{11, 64, 6, 8, 3, 2}, GateShape{5, 12, 3, 4, 2, 1}}) {
          s.router = router;
          s.normalize = normalize;
          s.scale = 1.5;
          gate(bench, s, d);
        }
      }
    }
  }
}

// Of equal scores the first; a NaN is chosen last.
void gate_order(Bench& bench) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  GateShape s{2, 4, 3};
  s.router = Router::sigmoid;
  const Array logits(bench, Dtype::fp32, {1, 1, 1, 1, nan, 0, 2, 0});
  const Array scores = Array::unset(bench, Dtype::fp32, 8), weights = Array::unset(bench, Dtype::fp32, 6);
  const Table chosen(bench, none(6));
  gate_forward(bench.stream(), s, logits, scores, weights, chosen);
  bench.expect_ids("gate, order", chosen, {0, 1, 2, 2, 1, 3});
}

void routes(Bench& bench) {
  for (const int64_t rows : {0, 1, 100, 2500}) {
    for (const std::int32_t experts : {1, 3, 300}) {
      for (const int64_t capacity : {0, 2, 40}) {
        const Ids chosen = random_ids(rows, experts, 1);
        const Table device_chosen(bench, chosen), place(bench, none(rows)), counts(bench, none(experts));
        Ids eplace = none(rows), ecounts = none(experts);
        kernels::route_count(rows, experts, capacity, chosen.data(), eplace.data(), ecounts.data());
        route_count(bench.stream(), rows, experts, capacity, device_chosen, place, counts);
        bench.expect_ids("route_count, places", place, eplace);
        bench.expect_ids("route_count, counts", counts, ecounts);
      }
    }
  }
  for (const int64_t members : {1, 2, 6}) {
    for (const int64_t local : {1, 50}) {
      const int64_t experts = members * local;
      const Ids counts = random_ids(experts, 5, 1), arrived = random_ids(experts, 7, 2);
      int64_t rows = 3;
      for (const std::int32_t n : arrived) {
        rows += n;
      }
      const Table device_counts(bench, counts), device_arrived(bench, arrived), place(bench, none(rows)),
          offsets(bench, none(local + 1)), to(bench, none(members)), from(bench, none(members));
      Ids eplace = none(rows), eoffsets = none(local + 1), eto = none(members), efrom = none(members);
      kernels::route_arrange(rows, experts, members, counts.data(), arrived.data(), eplace.data(), eoffsets.data(),
                             eto.data(), efrom.data());
      route_arrange(bench.stream(), rows, experts, members, device_counts, device_arrived, place, offsets, to, from);
      bench.expect_ids("route_arrange, places", place, eplace);
      bench.expect_ids("route_arrange, offsets", offsets, eoffsets);
      bench.expect_ids("route_arrange, to", to, eto);
      bench.expect_ids("route_arrange, from", from, efrom);
    }
  }
}

// Every copy of every row has a place, or none.
void permutes(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t rows : {0, 1, 37}) {
      for (const int64_t copies : {1, 2, 4}) {
        const int64_t cols = rows == 1 ? 300 : 9;
        Ids place(static_cast<std::size_t>(rows * copies));
        for (std::size_t i = 0; i < place.size(); ++i) {
          place[i] = i % 5 == 3 ? -1 : static_cast<std::int32_t>(place.size() - 1 - i);
        }
        const Table device_place(bench, place);
        const Array x = Array::random(bench, d, rows * cols, 1), y = Array::random(bench, d, rows * copies * cols, 2);
        const Array back = Array::unset(bench, d, rows * cols);
        Doubles ey = y.given(), eback = zeros(rows * cols);
        kernels::permute_backward(rows, copies, cols, on_host(y.given()), place.data(), on_host(eback));
        permute_backward(bench.stream(), rows, copies, cols, y, device_place, back);
        bench.expect("permute_backward", back, eback);
        kernels::permute_forward(rows, copies, cols, on_host(x.given()), place.data(), on_host(ey));
        permute_forward(bench.stream(), rows, copies, cols, x, device_place, y);
        bench.expect_exact("permute_forward", y, ey);
      }
    }
  }
}

// Two members' rows for three, of which each sends none to one.
void receives(Bench& bench) {
  const Ids to_all[] = {{2, 0, 5}, {0, 3, 1}};
  for (const Dtype d : kElementTypes) {
    for (const int64_t cols : {1, 7, 64}) {
      const Array first = Array::random(bench, d, 7 * cols, 1), second = Array::random(bench, d, 4 * cols, 2);
      const Table first_to(bench, to_all[0]), second_to(bench, to_all[1]);
      const ReceivedRows members[] = {{first.tensor().data, first_to}, {second.tensor().data, second_to}};
      // Where a member's rows for 0, 1 and 2 begin.
      const int64_t begins[2][3] = {{0, 2, 2}, {0, 0, 3}};
      for (std::size_t member = 0; member < 3; ++member) {
        Doubles expected;
        for (std::size_t m = 0; m < 2; ++m) {
          const auto rows = (m == 0 ? first : second).given().begin() + begins[m][member] * cols;
          expected.insert(expected.end(), rows, rows + to_all[m][member] * cols);
        }
        const Array y = Array::unset(bench, d, std::ssize(expected));
        receive_rows(bench.stream(), members, static_cast<int64_t>(member), size_bytes(d, cols), y.tensor().data);
        bench.expect_exact("receive_rows", y, expected);
      }
    }
  }
}

struct Experts {
  Ids offsets;
  int64_t rows() const { return offsets.back(); }
  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
};
const Experts kExperts[] = {{{0}}, {{0, 0}}, {{0, 1}}, {{0, 2, 2, 67, 70, 200, 200}}};

// Beside the sizes of tiles (64 x 64, 16 deep; 128 x 128, 32 deep), and more than one of them.
void grouped(Bench& bench) {
  for (const Experts& experts : kExperts) {
    const Table offsets(bench, experts.offsets);
    for (const Dtype d : kElementTypes) {
      for (const int64_t out : {1, 70, 136}) {
        for (const int64_t in : {0, 33, 168}) {
          const GroupedShape s{experts.count(), out, in};
          const int64_t rows = experts.rows(), n = s.experts * out * in;
          const Array x = Array::random(bench, d, rows * in, 1), w = Array::random(bench, d, n, 2),
                      dy = Array::random(bench, d, rows * out, 3), dw = Array::random(bench, wide(d), n, 4),
                      y = Array::unset(bench, d, rows * out), dx = Array::unset(bench, d, rows * in);
          Doubles ey = zeros(rows * out), edx = zeros(rows * in), edw = dw.given();
          const std::int32_t* const ends = experts.offsets.data();
          kernels::grouped_forward(s, ends, on_host(x.given()), on_host(w.given()), on_host(ey));
          kernels::grouped_backward_input(s, ends, on_host(dy.given()), on_host(w.given()), on_host(edx));
          kernels::grouped_backward_weight(s, ends, on_host(dy.given()), on_host(x.given()), on_host(edw));
          grouped_forward(bench.stream(), s, offsets, x, w, y);
          grouped_backward_input(bench.stream(), s, offsets, dy, w, dx);
          grouped_backward_weight(bench.stream(), s, offsets, dy, x, dw);
          const std::string what = fmt::format("grouped product of {} experts, {} x {}", s.experts, out, in);
          bench.expect(what, y, ey);
          bench.expect(what + ", input", dx, edx);
          bench.expect(what + ", weight", dw, edw);
        }
      }
    }
  }
}

void expert_biases(Bench& bench) {
  for (const Experts& experts : kExperts) {
    const Table offsets(bench, experts.offsets);
    for (const Dtype d : kElementTypes) {
      for (const bool weighted : {false, true}) {
        for (const bool by_expert : {true, false}) {
          const int64_t cols = 37, rows = experts.rows(), biases = by_expert ? experts.count() : 1;
          const ExpertBiasShape s{by_expert ? experts.count() : 0, rows, cols, 0.5};
          const std::int32_t* const ends = by_expert ? experts.offsets.data() : nullptr;
          const std::int32_t* const device_ends = by_expert ? offsets.data() : nullptr;
          if (by_expert && experts.count() == 0) {
            continue;  // would mean the other
          }
          const Array bias = Array::random(bench, d, biases * cols, 1),
                      weights = Array::random(bench, wide(d), rows, 2), y = Array::random(bench, d, rows * cols, 3),
                      dy = Array::random(bench, d, rows * cols, 4), dweights = Array::random(bench, wide(d), rows, 5),
                      dbias = Array::random(bench, wide(d), biases * cols, 6);
          const ConstTensor given = weighted ? on_host(weights.given()) : ConstTensor{};
          Doubles ey = y.given(), edweights = dweights.given(), edbias = dbias.given();
          kernels::expert_bias_forward(s, ends, on_host(bias.given()), given, on_host(ey));
          kernels::expert_bias_backward_weights(s, ends, on_host(dy.given()), on_host(bias.given()),
                                                on_host(edweights));
          kernels::expert_bias_gradient(s, ends, on_host(dy.given()), given, on_host(edbias));
          const ConstTensor weight = weighted ? ConstTensor(weights) : ConstTensor{};
          expert_bias_forward(bench.stream(), s, device_ends, bias, weight, y);
          expert_bias_backward_weights(bench.stream(), s, device_ends, dy, bias, dweights);
          expert_bias_gradient(bench.stream(), s, device_ends, dy, weight, dbias);
          bench.expect("expert_bias", y, ey);
          bench.expect("expert_bias, weights", dweights, edweights);
          bench.expect("expert_bias, gradient", dbias, edbias);
        }
      }
    }
  }
}

void expert_activations(Bench& bench) {
  for (const Activation kind : kActivations) {
    for (const Dtype d : kElementTypes) {
      for (const int64_t cols : {1, 300}) {
        for (const std::int32_t used : {-1, 0, 3}) {  // rows that there are; -1: all
          const int64_t rows = 4, width = is_gated(kind) ? 2 * cols : cols;
          const int64_t here = used < 0 ? rows : used;
          const Table count(bench, {used});
          const Array x = Array::random(bench, d, rows * width, 1, 3.0),
                      weights = Array::random(bench, wide(d), rows, 2), dy = Array::random(bench, d, rows * cols, 3),
                      y = Array::random(bench, d, rows * cols, 4), dx = Array::random(bench, d, rows * width, 5),
                      dweights = Array::random(bench, wide(d), rows, 6);
          Doubles ey = y.given(), edx = dx.given(), edweights = dweights.given();
          kernels::expert_activation_forward(kind, here, cols, on_host(x.given()), on_host(weights.given()),
                                             on_host(ey));
          kernels::expert_activation_backward(kind, here, cols, on_host(x.given()), on_host(weights.given()),
                                              on_host(dy.given()), on_host(edx), on_host(edweights));
          const std::int32_t* const device_count = used < 0 ? nullptr : count.data();
          expert_activation_forward(bench.stream(), kind, rows, device_count, cols, x, weights, y);
          expert_activation_backward(bench.stream(), kind, rows, device_count, cols, x, weights, dy, dx, dweights);
          bench.expect("expert_activation", y, ey);
          bench.expect("expert_activation, backward", dx, edx);
          bench.expect("expert_activation, weights", dweights, edweights);
        }
      }
    }
  }
}

constexpr Check kChecks[] = {{"gate", gates},
                             {"gate, order", gate_order},
                             {"route_count, route_arrange", routes},
                             {"permute", permutes},
                             {"receive_rows", receives},
                             {"grouped", grouped},
                             {"grouped, in packs", in_packs<grouped>},
                             {"expert_bias", expert_biases},
                             {"expert_activation", expert_activations}};

}  // namespace

std::span<const Check> expert_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
