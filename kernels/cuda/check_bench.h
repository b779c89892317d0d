// What checks (check.h) are written with.
#pragma once

#include <fmt/format.h>

#include "kernels/cuda/check.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

using Doubles = std::vector<double>;
using Ids = std::vector<std::int32_t>;

inline constexpr Dtype kElementTypes[] = {Dtype::fp64, Dtype::fp32, Dtype::bf16};
inline constexpr std::int64_t kCounts[] = {0, 1, 3, 32, 133, 1025, 1032};
inline constexpr Activation kActivations[] = {Activation::gelu,    Activation::relu,     Activation::swiglu,
                                              Activation::geglu,   Activation::gelu_erf, Activation::swiglu_clamped,
                                              Activation::sigmoid, Activation::tanh};

// n values between -scale and scale, and n numbers below `below`; the same for the same seed.
Doubles random_values(std::int64_t n, unsigned seed, double scale = 1.0);
Ids random_ids(std::int64_t n, std::int32_t below, unsigned seed);

// Device memory with values of one type, a few elements past an aligned address, or at one.
class Array {
 public:
  Array(Bench& bench, Dtype dtype, const Doubles& values);
  // Values as they are once rounded to the type.
  static Array random(Bench& bench, Dtype dtype, std::int64_t n, unsigned seed, double scale = 1.0);
  // What nobody may read before it is written: NaN.
  static Array unset(Bench& bench, Dtype dtype, std::int64_t n);
  ~Array();
  Array(const Array&) = delete;
  Array(Array&& other) noexcept;

  Dtype dtype() const { return dtype_; }
  std::int64_t size() const { return n_; }
  Tensor tensor() const { return {data(), dtype_}; }
  operator Tensor() const { return tensor(); }       // NOLINT
  operator ConstTensor() const { return tensor(); }  // NOLINT
  const Doubles& given() const { return given_; }    // the values it was made of, rounded
  Doubles read() const;

 private:
  std::byte* data() const;

  Bench* bench_;
  Dtype dtype_;
  std::int64_t n_, shift_;
  Doubles given_;
  void* memory_;
};

// Device memory of int32.
class Table {
 public:
  Table(Bench& bench, const Ids& values);
  ~Table();
  Table(const Table&) = delete;

  std::int32_t* data() const { return static_cast<std::int32_t*>(memory_); }
  operator std::int32_t*() const { return data(); }  // NOLINT
  Ids read() const;

 private:
  Bench* bench_;
  std::size_t n_;
  void* memory_;
};

class Bench {
 public:
  explicit Bench(Memory& memory) : memory_(memory) {}

  Memory& memory() { return memory_; }
  const Stream& stream() { return memory_.stream(); }
  const Outcome& outcome() const { return outcome_; }
  // How many elements past an aligned address arrays begin: 3 are enough for none to be aligned beyond its element.
  std::int64_t shift() const { return shift_; }
  void align() { shift_ = 0; }

  // Each value within one rounding of its type, and `factor` times 1e-12 (fp64) or 1e-5 of the largest expected one.
  void expect(const std::string& what, const Array& actual, const Doubles& expected, double factor = 1.0);
  // Each value the expected one, rounded to its type.
  void expect_exact(const std::string& what, const Array& actual, const Doubles& expected);
  void expect_ids(const std::string& what, const Table& actual, const Ids& expected);

 private:
  void fail(std::string what);
  void count(const void* data, std::size_t bytes);

  Memory& memory_;
  Outcome outcome_;
  std::int64_t shift_ = 3;
};

// A check once more, on tensors that kernels take whole packs of (pack.h).
template <void (*kCheck)(Bench&)>
void in_packs(Bench& bench) {
  bench.align();
  kCheck(bench);
}

inline std::vector<Dtype> parameter_types(Dtype d) {
  return d == wide(d) ? std::vector<Dtype>{d} : std::vector<Dtype>{d, wide(d)};
}

std::span<const Check> elementwise_checks();
std::span<const Check> compression_checks();
std::span<const Check> row_checks();
std::span<const Check> token_checks();
std::span<const Check> optimizer_checks();
std::span<const Check> expert_checks();
std::span<const Check> matmul_checks();
std::span<const Check> attention_checks();
std::span<const Check> attention_rows_checks();

}  // namespace foretrain::kernels::cuda
