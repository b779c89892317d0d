// Values coded in fewer bytes (base/code.h), with error feedback: what a code loses is added to the next values.
// Under the rules of kernels.h. The definition of each result is kernels/compression.cpp.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/code.h"
#include "kernels/tensor.h"

namespace foretrain::kernels {

// Where the arrays of a code stand that begins at `begin`, of a possibly const byte.
template <class W, class Byte>
struct CodeArrays {
  template <class X>
  using Of = std::conditional_t<std::is_const_v<Byte>, const X, X>;
  Of<W>* wide;                 // scales of int8, values of top_k
  Of<std::int8_t>* multiples;  // of int8
  Of<std::uint32_t>* places;   // of top_k

  CodeArrays(const Code& code, Byte* begin)
      : wide(reinterpret_cast<Of<W>*>(begin)),
        multiples(reinterpret_cast<Of<std::int8_t>*>(wide + code.blocks())),
        places(reinterpret_cast<Of<std::uint32_t>*>(wide + code.kept)) {}
};

// v = x + residual; `code` is v coded; residual = v - what the code says. x [elements] T; residual [elements] of the
// code's dtype, W.
void encode(const Code& code, ConstTensor x, Tensor residual, void* coded);
// x = the sum of `parts` codes, one behind the other, in their order: of int8 in W, rounded once; of top_k each sum
// rounded to T.
void decode(const Code& code, std::int64_t parts, const void* coded, Tensor x);

}  // namespace foretrain::kernels
