// Buffers for kernel tests: values of any element type at any alignment, from and to doubles, and their comparison.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"

namespace foretrain::kernels {

inline const std::vector<Dtype> kElementTypes = {Dtype::fp64, Dtype::fp32, Dtype::bf16, Dtype::fp16};

// n values of one type. They start `shift` elements past a 64-byte boundary and end where the allocation ends, so that
// a sanitizer sees the first step too far.
class Values {
 public:
  Values(Dtype dtype, std::size_t n, std::size_t shift = 1) : dtype_(dtype), n_(n), shift_(shift) {
    const std::size_t bytes = static_cast<std::size_t>(size_bytes(dtype, static_cast<std::int64_t>(n + shift)));
    storage_.reset(static_cast<char*>(::operator new (bytes, std::align_val_t{64})));
    std::memset(storage_.get(), 0, bytes);
  }
  Values(Dtype dtype, const std::vector<double>& x, std::size_t shift = 1) : Values(dtype, x.size(), shift) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      set(i, x[i]);
    }
  }
  Values(const Values& other) : Values(other.dtype_, other.n_, other.shift_) { *this = other; }
  Values& operator=(const Values& other) {
    EXPECT_EQ(other.n_, n_);
    std::memcpy(data(), other.data(), bytes());
    return *this;
  }

  Tensor tensor() { return {data(), dtype_}; }
  ConstTensor tensor() const { return {data(), dtype_}; }
  std::size_t size() const { return n_; }
  Dtype dtype() const { return dtype_; }

  double get(std::size_t i) const {
    switch (dtype_) {
      case Dtype::fp64: return static_cast<const double*>(data())[i];
      case Dtype::fp32: return static_cast<double>(static_cast<const float*>(data())[i]);
      case Dtype::fp16: return static_cast<double>(static_cast<float>(static_cast<const Fp16*>(data())[i]));
      default: return static_cast<double>(static_cast<float>(static_cast<const Bf16*>(data())[i]));
    }
  }
  void set(std::size_t i, double x) {
    switch (dtype_) {
      case Dtype::fp64: static_cast<double*>(data())[i] = x; break;
      case Dtype::fp32: static_cast<float*>(data())[i] = static_cast<float>(x); break;
      case Dtype::fp16: static_cast<Fp16*>(data())[i] = Fp16(static_cast<float>(x)); break;
      default: static_cast<Bf16*>(data())[i] = Bf16(static_cast<float>(x)); break;
    }
  }
  std::vector<double> doubles() const {
    std::vector<double> x(n_);
    for (std::size_t i = 0; i < n_; ++i) {
      x[i] = get(i);
    }
    return x;
  }
  std::size_t bytes() const { return static_cast<std::size_t>(size_bytes(dtype_, static_cast<std::int64_t>(n_))); }
  bool same_bits(const Values& other) const {
    return other.bytes() == bytes() && (bytes() == 0 || std::memcmp(data(), other.data(), bytes()) == 0);
  }

 private:
  struct Free {
    void operator()(char* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  void* data() { return storage_.get() + size_bytes(dtype_, static_cast<std::int64_t>(shift_)); }
  const void* data() const { return storage_.get() + size_bytes(dtype_, static_cast<std::int64_t>(shift_)); }

  Dtype dtype_;
  std::size_t n_;
  std::size_t shift_;
  std::unique_ptr<char, Free> storage_;
};

inline std::vector<double> random_values(std::size_t n, unsigned seed, double scale = 1.0) {
  std::mt19937 generator(seed);
  std::vector<double> x(n);
  for (double& value : x) {
    value = scale * (static_cast<double>(generator()) / 2147483648.0 - 1.0);
  }
  return x;
}

// Random values already rounded to a type, so that a reference in fp64 sees what the kernel sees.
inline Values random_tensor(Dtype dtype, std::int64_t n, unsigned seed, double scale = 1.0) {
  return {dtype, random_values(static_cast<std::size_t>(n), seed, scale), seed % 5};
}

inline std::vector<std::int32_t> random_ids(std::int64_t n, std::int32_t vocab, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (std::int32_t& id : ids) {
    id = static_cast<std::int32_t>(generator() % static_cast<unsigned>(vocab));
  }
  return ids;
}

// Half a unit in the last place of the type, as a fraction.
inline double rounding(Dtype d) {
  return d == Dtype::fp64 ? 0x1p-53 : d == Dtype::fp32 ? 0x1p-24 : d == Dtype::fp16 ? 0x1p-11 : 0x1p-8;
}

// The same beside zero.
inline double least_rounding(Dtype d) {
  return d == Dtype::fp16 ? 0x1p-25 : 0;
}

// Each value within `ulps` roundings of the arithmetic, relative to the largest expected value, plus one rounding of
// its own to the stored type.
inline void expect_close(const Values& actual, const std::vector<double>& expected, Dtype arithmetic, double ulps,
                         const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0.0;
  for (const double e : expected) {
    largest = std::isfinite(e) ? std::max(largest, std::abs(e)) : largest;
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(expected[i])) {
      EXPECT_EQ(actual.get(i), expected[i]) << what << " at " << i;
      continue;
    }
    const double own = std::max(rounding(actual.dtype()) * std::abs(expected[i]), least_rounding(actual.dtype()));
    const double tolerance = own + ulps * rounding(wide(arithmetic)) * std::max(largest, 1e-30);
    ASSERT_NEAR(actual.get(i), expected[i], tolerance) << what << " at " << i << ", " << name(actual.dtype());
  }
}

// Runs f once per instruction set that this processor has, then restores the one in use.
inline void for_instruction_sets(const std::function<void(const std::string&)>& f) {
  const InstructionSet original = instruction_set();
  for (const InstructionSet s : {InstructionSet::x86_64, InstructionSet::avx2, InstructionSet::avx512}) {
    if (use_instruction_set(s)) {
      f(std::string(name(s)));
    }
  }
  use_instruction_set(original);
}

}  // namespace foretrain::kernels
