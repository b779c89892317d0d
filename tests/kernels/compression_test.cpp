// Codes of values, by hand.
#include "kernels/compression.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace foretrain::kernels {
namespace {

using std::int64_t;
using Floats = std::vector<float>;

struct Coded {
  Floats residual;
  std::vector<std::byte> bytes;
};

Coded coded(const Code& code, const Floats& x, Floats residual) {
  Coded c{std::move(residual), std::vector<std::byte>(static_cast<std::size_t>(code.bytes()))};
  encode(code, {x.data(), Dtype::fp32}, {c.residual.data(), Dtype::fp32}, c.bytes.data());
  return c;
}

Floats decoded(const Code& code, int64_t parts, const std::vector<std::byte>& bytes) {
  Floats x(static_cast<std::size_t>(code.elements), -1.0F);
  decode(code, parts, bytes.data(), {x.data(), Dtype::fp32});
  return x;
}

// int8: a scale of 4 bytes for every 256 values, and a byte for each; 4 + 200 = 204, rounded up to 208.
// top_k: 8 bytes for each value that is kept.
TEST(Code, HasSoManyBytes) {
  EXPECT_EQ((Code{Coding::int8, 200, 0, Dtype::fp32}.bytes()), 208);
  EXPECT_EQ((Code{Coding::int8, 512, 0, Dtype::fp32}.bytes()), 528);
  EXPECT_EQ((Code{Coding::int8, 512, 0, Dtype::fp64}.bytes()), 528);
  EXPECT_EQ((Code{Coding::int8, 0, 0, Dtype::fp32}.bytes()), 0);
  EXPECT_EQ((Code{Coding::top_k, 200, 3, Dtype::fp32}.bytes()), 32);
  EXPECT_EQ((Code{Coding::top_k, 200, 3, Dtype::fp64}.bytes()), 48);
}

// The largest of 2, 127 + 127, -1 is 254: the scale is 2. 2 / 2 = 1; 254 / 2 = 127; -1 / 2 is half way, to the even 0.
TEST(Code, Int8GivesMultiplesAndKeepsTheRest) {
  const Code code{Coding::int8, 3, 0, Dtype::fp32};
  const Coded c = coded(code, {2, 127, -1}, {0, 127, 0});
  EXPECT_EQ(decoded(code, 1, c.bytes), (Floats{2, 254, 0}));
  EXPECT_EQ(c.residual, (Floats{0, 0, -1}));
}

TEST(Code, Int8OfZerosIsZeroAndOfNoNumberNone) {
  const Code code{Coding::int8, 300, 0, Dtype::fp32};
  Floats x(300, 0.0F);
  EXPECT_EQ(decoded(code, 1, coded(code, x, x).bytes), x);
  x[299] = std::numeric_limits<float>::quiet_NaN();
  const Floats back = decoded(code, 1, coded(code, x, Floats(300, 0.0F)).bytes);
  EXPECT_EQ(back[255], 0.0F);  // the block before it
  EXPECT_TRUE(std::isnan(back[256]) && std::isnan(back[299]));
}

// With what is left over, -5 is the largest, and of the two 3s the first one goes.
TEST(Code, TopKTakesTheLargest) {
  const Code code{Coding::top_k, 5, 2, Dtype::fp32};
  const Coded c = coded(code, {1, 3, -4, 3, 0}, {0, 0, -1, 0, 2});
  EXPECT_EQ(decoded(code, 1, c.bytes), (Floats{0, 3, -5, 0, 0}));
  EXPECT_EQ(c.residual, (Floats{1, 0, 0, 3, 2}));
}

// Two members: what they say is added up.
TEST(Code, PartsAreAddedUp) {
  const Code top{Coding::top_k, 4, 1, Dtype::fp32};
  std::vector<std::byte> both = coded(top, {0, 3, 0, 1}, Floats(4, 0.0F)).bytes;
  const std::vector<std::byte> second = coded(top, {0, -2, 1, 0}, Floats(4, 0.0F)).bytes;
  both.insert(both.end(), second.begin(), second.end());
  EXPECT_EQ(decoded(top, 2, both), (Floats{0, 1, 0, 0}));
  EXPECT_EQ(decoded(top, 0, both), Floats(4, 0.0F));
}

// Nothing is lost: what went out and what is left are what came in. All sizes, 0 and 1 among them, also in fp64.
TEST(Code, NothingIsLost) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (const int64_t n : {0, 1, 255, 256, 257, 5000}) {
    for (const Coding kind : {Coding::int8, Coding::top_k}) {
      const Code code{kind, n, kind == Coding::top_k ? n / 10 : 0, Dtype::fp64};
      std::vector<double> x(static_cast<std::size_t>(n)), residual(x.size()), back(x.size());
      std::generate(x.begin(), x.end(), [&] { return normal(random); });
      std::vector<std::byte> bytes(static_cast<std::size_t>(code.bytes()));
      encode(code, {x.data(), Dtype::fp64}, {residual.data(), Dtype::fp64}, bytes.data());
      decode(code, 1, bytes.data(), {back.data(), Dtype::fp64});
      for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_NEAR(back[i] + residual[i], x[i], 1e-15 * std::abs(x[i]) + 1e-15);
      }
      const auto kept = std::count_if(back.begin(), back.end(), [](double v) { return v != 0; });
      EXPECT_TRUE(kind == Coding::int8 || kept == code.kept);
    }
  }
}

}  // namespace
}  // namespace foretrain::kernels
