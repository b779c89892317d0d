// Codes of values: those of the CPU, bit by bit.
#include <cmath>
#include <cstring>

#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

// One code of x and its residual, twice in a row, and their sum; `x` as it is given, values with equals among them.
void check_code(Bench& bench, const std::string& what, const Code& code, Dtype dtype, const Doubles& x) {
  const Array given(bench, dtype, x), residual = Array::random(bench, code.dtype, code.elements, 2, 0.5);
  const Doubles before = residual.given();
  const Table coded(bench, Ids(static_cast<std::size_t>(code.bytes() / 2), 0));
  encode(bench.stream(), code, given, residual, coded.data());

  std::vector<std::byte> element(static_cast<std::size_t>(size_bytes(dtype, code.elements)));
  std::vector<std::byte> left(static_cast<std::size_t>(size_bytes(code.dtype, code.elements)));
  Ids expected(static_cast<std::size_t>(code.bytes() / 2), 0);
  const Tensor on_host{element.data(), dtype}, left_on_host{left.data(), code.dtype};
  kernels::cast({given.given().data(), Dtype::fp64}, on_host, code.elements);
  kernels::cast({before.data(), Dtype::fp64}, left_on_host, code.elements);
  kernels::encode(code, on_host, left_on_host, expected.data());
  bench.expect_ids(what, coded, expected);
  Doubles wide(static_cast<std::size_t>(code.elements));
  const auto values = [&](ConstTensor t) {
    kernels::cast(t, {wide.data(), Dtype::fp64}, code.elements);
    return wide;
  };
  bench.expect(what + ", residual", residual, values(left_on_host));

  // A second code behind the first.
  const auto half = static_cast<std::size_t>(code.bytes());
  encode(bench.stream(), code, given, residual, coded.data() + half / 4);
  Ids both = coded.read();
  const Array sum = Array::unset(bench, dtype, code.elements);
  decode(bench.stream(), code, 2, coded.data(), sum);
  kernels::decode(code, 2, both.data(), on_host);
  bench.expect(what + ", decoded", sum, values(on_host));
}

void codes(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t n : {0, 1, 133, 256, 1025, 3000}) {
      Doubles x = random_values(n, 1);
      check_code(bench, fmt::format("int8 of {}", n), {Coding::int8, n, 0, wide(d)}, d, x);
      for (const int64_t kept : {int64_t{0}, std::min<int64_t>(n, 1), n / 3, n}) {
        check_code(bench, fmt::format("top {} of {}", kept, n), {Coding::top_k, n, kept, wide(d)}, d, x);
      }
    }
  }
  // Of one magnitude, all of them.
  const Array equal(bench, Dtype::fp32, {2, -2, 2, -2}), residual(bench, Dtype::fp32, Doubles(4, 0.0));
  const Table coded(bench, Ids(4, 0));
  encode(bench.stream(), {Coding::top_k, 4, 2, Dtype::fp32}, equal, residual, coded.data());
  bench.expect_exact("top 2 of equals, residual", residual, {0, 0, 2, -2});
  const Array sum = Array::unset(bench, Dtype::fp32, 4);
  decode(bench.stream(), {Coding::top_k, 4, 2, Dtype::fp32}, 1, coded.data(), sum);
  bench.expect_exact("top 2 of equals", sum, {2, -2, 0, 0});
}

// 2^-25 is half of the smallest fp16, 65520 half way beyond the largest one.
void halves(Bench& bench) {
  const Doubles x = {0, 1, -1.0 / 3, 65504, 65519, 65520, 0x1p-24, 0x1p-25, 0x1.8p-25, -0x1p-14, 6.1e-5};
  const std::vector<double> infinite{std::numeric_limits<double>::infinity()};
  const Doubles expected = {0,
                            1,
                            -0.333251953125,
                            65504,
                            65504,
                            infinite[0],
                            0x1p-24,
                            0,
                            0x1p-24,
                            -0x1p-14,
                            std::round(6.1e-5 * 0x1p24) * 0x1p-24};
  const auto n = static_cast<int64_t>(x.size());
  for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
    const Array from(bench, d, x), back = Array::unset(bench, d, n);
    const Table half(bench, Ids(16, 0)), sum(bench, Ids(16, 0));
    const Tensor h{half.data(), Dtype::fp16}, s{sum.data(), Dtype::fp16};
    cast(bench.stream(), from, h, n);
    cast(bench.stream(), h, back, n);
    bench.expect_exact("fp16", back, expected);
    const std::vector<ConstTensor> sources = {h, h};
    sum_in_order(bench.stream(), sources, s, {}, n);
    cast(bench.stream(), s, back, n);
    Doubles twice = expected;
    for (double& value : twice) {
      value = std::abs(value) > 40000 ? std::copysign(infinite[0], value) : 2 * value;
    }
    bench.expect_exact("sum of fp16", back, twice);
  }
}

constexpr Check kChecks[] = {{"encode, decode", codes}, {"fp16", halves}};

}  // namespace

std::span<const Check> compression_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
