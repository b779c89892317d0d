#include <atomic>

#include "base/error.h"
#include "kernels/bf16_library.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

namespace {

bool runs(InstructionSet s) {
  switch (s) {
    case InstructionSet::x86_64: return true;
    case InstructionSet::avx2:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
             __builtin_cpu_supports("f16c") != 0;
    case InstructionSet::avx512:
      return runs(InstructionSet::avx2) && __builtin_cpu_supports("avx512f") != 0 &&
             __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
             __builtin_cpu_supports("avx512vl") != 0;
  }
  return false;
}

InstructionSet best() {
  for (const InstructionSet s : {InstructionSet::avx512, InstructionSet::avx2}) {
    if (runs(s)) {
      return s;
    }
  }
  return InstructionSet::x86_64;
}

std::atomic<InstructionSet>& chosen() {
  static std::atomic<InstructionSet> value{best()};
  return value;
}

}  // namespace

InstructionSet instruction_set() {
  return chosen().load(std::memory_order_relaxed);
}

std::string_view name(InstructionSet s) {
  switch (s) {
    case InstructionSet::x86_64: return "x86-64";
    case InstructionSet::avx2: return "avx2";
    case InstructionSet::avx512: return "avx512";
  }
  return "";
}

bool use_instruction_set(InstructionSet s) {
  if (!runs(s)) {
    return false;
  }
  chosen().store(s, std::memory_order_relaxed);
  return true;
}

const Table& table() {
  switch (instruction_set()) {
    case InstructionSet::x86_64: return x86_64::kTable;
    case InstructionSet::avx2: return avx2::kTable;
    case InstructionSet::avx512: return avx512::kTable;
  }
  CHECK(false, "instruction set {}", static_cast<int>(instruction_set()));
}

std::string_view bf16_matmul_backend() {
  return bf16_library().description;
}

}  // namespace foretrain::kernels
