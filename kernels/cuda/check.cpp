#include "kernels/cuda/check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#include "base/error.h"
#include "kernels/bf16.h"
#include "kernels/cuda/check_bench.h"

namespace foretrain::kernels::cuda {

namespace {

std::vector<std::byte> rounded_bytes(Dtype d, const Doubles& values) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size_bytes(d, static_cast<std::int64_t>(values.size()))));
  const auto put = [&](auto convert) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto x = convert(values[i]);
      std::memcpy(bytes.data() + i * sizeof(x), &x, sizeof(x));
    }
  };
  switch (d) {
    case Dtype::fp64: put([](double x) { return x; }); break;
    case Dtype::fp32: put([](double x) { return static_cast<float>(x); }); break;
    default: put([](double x) { return Bf16(static_cast<float>(x)); }); break;
  }
  return bytes;
}

Doubles values_of(Dtype d, const std::vector<std::byte>& bytes) {
  Doubles values;
  const auto take = [&](auto x) {
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(x)) {
      std::memcpy(&x, bytes.data() + i, sizeof(x));
      if constexpr (sizeof(x) == sizeof(Bf16)) {
        values.push_back(static_cast<double>(static_cast<float>(x)));
      } else {
        values.push_back(static_cast<double>(x));
      }
    }
  };
  switch (d) {
    case Dtype::fp64: take(double{}); break;
    case Dtype::fp32: take(float{}); break;
    default: take(Bf16{}); break;
  }
  return values;
}

double rounding(Dtype d) {
  return d == Dtype::fp64 ? 0x1p-53 : d == Dtype::fp32 ? 0x1p-24 : 0x1p-8;
}

}  // namespace

Doubles random_values(std::int64_t n, unsigned seed, double scale) {
  std::mt19937 generator(seed);
  Doubles x(static_cast<std::size_t>(n));
  for (double& value : x) {
    value = scale * (static_cast<double>(generator()) / 2147483648.0 - 1.0);
  }
  return x;
}

Ids random_ids(std::int64_t n, std::int32_t below, unsigned seed) {
  std::mt19937 generator(seed);
  Ids ids(static_cast<std::size_t>(n));
  for (std::int32_t& id : ids) {
    id = static_cast<std::int32_t>(generator() % static_cast<unsigned>(below));
  }
  return ids;
}

Array::Array(Bench& bench, Dtype dtype, const Doubles& values)
    : bench_(&bench), dtype_(dtype), n_(static_cast<std::int64_t>(values.size())), shift_(bench.shift()) {
  const std::vector<std::byte> bytes = rounded_bytes(dtype, values);
  given_ = values_of(dtype, bytes);
  memory_ = bench.memory().allocate(static_cast<std::size_t>(size_bytes(dtype, shift_)) + bytes.size());
  bench.memory().write(bytes.data(), data(), bytes.size());
}

Array Array::random(Bench& bench, Dtype dtype, std::int64_t n, unsigned seed, double scale) {
  return {bench, dtype, random_values(n, seed, scale)};
}

Array Array::unset(Bench& bench, Dtype dtype, std::int64_t n) {
  return {bench, dtype, Doubles(static_cast<std::size_t>(n), std::numeric_limits<double>::quiet_NaN())};
}

Array::Array(Array&& other) noexcept
    : bench_(other.bench_),
      dtype_(other.dtype_),
      n_(other.n_),
      shift_(other.shift_),
      given_(std::move(other.given_)),
      memory_(std::exchange(other.memory_, nullptr)) {}

Array::~Array() {
  if (memory_ != nullptr) {
    bench_->memory().release(memory_);
  }
}

std::byte* Array::data() const {
  return static_cast<std::byte*>(memory_) + size_bytes(dtype_, shift_);
}

Doubles Array::read() const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size_bytes(dtype_, n_)));
  bench_->memory().read(data(), bytes.data(), bytes.size());
  return values_of(dtype_, bytes);
}

Table::Table(Bench& bench, const Ids& values)
    : bench_(&bench), n_(values.size()), memory_(bench.memory().allocate(n_ * sizeof(std::int32_t))) {
  bench.memory().write(values.data(), memory_, n_ * sizeof(std::int32_t));
}

Table::~Table() {
  bench_->memory().release(memory_);
}

Ids Table::read() const {
  Ids values(n_);
  bench_->memory().read(memory_, values.data(), n_ * sizeof(std::int32_t));
  return values;
}

void Bench::fail(std::string what) {
  if (outcome_.failure.empty()) {
    outcome_.failure = std::move(what);
  }
}

// FNV-1a.
void Bench::count(const void* data, std::size_t bytes) {
  outcome_.bits ^= outcome_.bits == 0 ? 0xcbf29ce484222325U : 0U;
  for (std::size_t i = 0; i < bytes; ++i) {
    outcome_.bits = (outcome_.bits ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3U;
  }
}

void Bench::expect(const std::string& what, const Array& array, const Doubles& expected, double factor) {
  const Doubles actual = array.read();
  count(actual.data(), actual.size() * sizeof(double));
  CHECK(actual.size() == expected.size(), "{}: {} values, {} expected", what, actual.size(), expected.size());
  double largest = 1e-30;
  for (const double e : expected) {
    largest = std::isfinite(e) ? std::max(largest, std::abs(e)) : largest;
  }
  const double share = factor * (wide(array.dtype()) == Dtype::fp64 ? 1e-12 : 1e-5);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double allowed = rounding(array.dtype()) * std::abs(expected[i]) + share * largest;
    const double error = actual[i] == expected[i] ? 0.0 : std::abs(actual[i] - expected[i]) / allowed;
    outcome_.worst = std::max(outcome_.worst, error);
    ++outcome_.compared;
    if (!(error <= 1.0)) {
      fail(fmt::format("{} ({}), element {}: {} where {} is expected", what, name(array.dtype()), i, actual[i],
                       expected[i]));
    }
  }
}

void Bench::expect_exact(const std::string& what, const Array& array, const Doubles& expected) {
  const Doubles actual = array.read(), rounded = values_of(array.dtype(), rounded_bytes(array.dtype(), expected));
  count(actual.data(), actual.size() * sizeof(double));
  CHECK(actual.size() == expected.size(), "{}: {} values, {} expected", what, actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ++outcome_.compared;
    if (actual[i] != rounded[i]) {
      fail(fmt::format("{} ({}), element {}: {} where {} is expected, to the bit", what, name(array.dtype()), i,
                       actual[i], rounded[i]));
    }
  }
}

void Bench::expect_ids(const std::string& what, const Table& table, const Ids& expected) {
  const Ids actual = table.read();
  count(actual.data(), actual.size() * sizeof(std::int32_t));
  ++outcome_.compared;
  if (actual != expected) {
    const auto at = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end()).first;
    fail(fmt::format("{}: {} numbers where {} are expected, the first other one is number {}", what, actual.size(),
                     expected.size(), at - actual.begin()));
  }
}

std::vector<Check> checks() {
  std::vector<Check> all;
  for (const std::span<const Check> some :
       {elementwise_checks(), compression_checks(), row_checks(), token_checks(), optimizer_checks(), expert_checks(),
        matmul_checks(), attention_checks(), attention_rows_checks()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

Outcome run(const Check& check, Memory& memory) {
  Bench bench(memory);
  check.run(bench);
  return bench.outcome();
}

}  // namespace foretrain::kernels::cuda
