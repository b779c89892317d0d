// Numbers of safetensors files: little-endian, as this machine's are.
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "exec/weights.h"
#include "kernels/bf16.h"

namespace foretrain::exec {

namespace {

static_assert(std::endian::native == std::endian::little);

// IEEE binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const double fraction = bits & 0x3ff;
  const double value = exponent == 0    ? std::ldexp(fraction, -24)
                       : exponent == 31 ? (fraction == 0 ? HUGE_VAL : std::nan(""))
                                        : std::ldexp(fraction + 1024, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

std::uint16_t to_half(double x) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const double size = std::abs(x);
  if (std::isnan(x)) {
    return sign | 0x7e00;
  }
  if (size < std::ldexp(1, -14)) {  // subnormal: a multiple of 2^-24; 1024 of them are the least normal number
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 24))));
  }
  int exponent = 0;
  std::frexp(size, &exponent);  // size in [2^(exponent-1), 2^exponent)
  // Rounding up to the next power of two carries into the exponent, as it should; past the last one it is infinity.
  const double rounded = size >= 65520 ? 2048 : std::nearbyint(std::ldexp(size, 11 - exponent));
  const int biased = size >= 65520 ? 30 : exponent + 14;
  return static_cast<std::uint16_t>(sign | ((biased << 10) + static_cast<int>(rounded) - 1024));
}

template <class T, class F>
void decode_as(std::span<const std::byte> bytes, std::vector<double>& values, F convert) {
  values.resize(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(stored);
  }
}

template <class T, class F>
std::string encode_as(const std::vector<double>& values, F convert) {
  std::string bytes(values.size() * sizeof(T), '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T stored = convert(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &stored, sizeof(T));
  }
  return bytes;
}

}  // namespace

void decode(std::span<const std::byte> bytes, Dtype dtype, std::vector<double>& values) {
  switch (dtype) {
    case Dtype::fp64: return decode_as<double>(bytes, values, [](double x) { return x; });
    case Dtype::fp32: return decode_as<float>(bytes, values, [](float x) { return static_cast<double>(x); });
    case Dtype::fp16: return decode_as<std::uint16_t>(bytes, values, from_half);
    case Dtype::bf16:
      return decode_as<kernels::Bf16>(bytes, values, [](kernels::Bf16 x) { return static_cast<double>(float(x)); });
    default: CHECK(false, "weights in {}", name(dtype));
  }
}

std::string encode(const std::vector<double>& values, Dtype dtype) {
  switch (dtype) {
    case Dtype::fp64: return encode_as<double>(values, [](double x) { return x; });
    case Dtype::fp32:
    case Dtype::tf32: return encode_as<float>(values, [](double x) { return static_cast<float>(x); });
    case Dtype::fp16: return encode_as<std::uint16_t>(values, to_half);
    // Values of a run in bf16 are bf16 already: rounding by way of fp32 changes none.
    case Dtype::bf16: return encode_as<kernels::Bf16>(values, [](double x) { return kernels::Bf16(float(x)); });
    default: CHECK(false, "weights in {}", name(dtype));
  }
  return {};
}

}  // namespace foretrain::exec
