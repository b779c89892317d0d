// A library that multiplies bf16 with the processor's matrix units: oneDNN, in a module of its own, so that a program
// which never multiplies bf16, or runs on a processor without the units, does not load it.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace foretrain::kernels {

struct Bf16Library {
  decltype(&kernels::matmul) matmul = nullptr;  // nullptr: none; bf16 is widened and multiplied as fp32
  std::string description;                      // what it is, or why there is none
};

// Opened on the first call, once per process.
const Bf16Library& bf16_library();

}  // namespace foretrain::kernels
