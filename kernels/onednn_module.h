// What libforetrain_onednn.so exports: a function with the signature of kernels::matmul, for fp32 and bf16 operands of
// one type.
#pragma once

namespace foretrain::kernels {

inline constexpr char kOneDnnModule[] = "libforetrain_onednn.so";
inline constexpr char kOneDnnMatmul[] = "foretrain_onednn_matmul";

}  // namespace foretrain::kernels
