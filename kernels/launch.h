// Checks that launchers share. They say which launcher, what stood there and what is allowed.
#pragma once

#include <initializer_list>

#include "kernels/kernels.h"

namespace foretrain::kernels {

// The op's element type: fp64, fp32, bf16 or fp16.
void check_element(const char* op, Dtype d);
// Each is the op's element type or its wide type.
void check_element_or_wide(const char* op, Dtype element, std::initializer_list<Dtype> types);
// All are the op's element type, and it is one.
void check_same(const char* op, Dtype element, std::initializer_list<Dtype> types);
// All are its wide type.
void check_wide(const char* op, Dtype element, std::initializer_list<Dtype> types);
// Sizes that may not be negative.
void check_sizes(const char* op, std::initializer_list<std::int64_t> sizes);
// The shape, the element type of qkv, and the types of the other operands (that type or its wide type).
void check_attention(const char* op, const AttentionShape& shape, Dtype qkv, std::initializer_list<Dtype> others);

}  // namespace foretrain::kernels
