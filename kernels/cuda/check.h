// Checks of the GPU kernels: every launcher on a grid of shapes (0, 1, and sizes beside those of blocks among them) and
// of element types, against its definition in kernels/reference.cpp in fp64, or against the CPU's launcher where that
// is its definition. Whoever can give kernels memory can run them: a device, and tests without one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"

namespace foretrain::kernels::cuda {

// Memory that kernels see.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  virtual void write(const void* from, void* to, std::size_t bytes) = 0;
  // Behind all that is in the stream.
  virtual void read(const void* from, void* to, std::size_t bytes) = 0;
  virtual const Stream& stream() = 0;
};

struct Outcome {
  std::int64_t compared = 0;
  double worst = 0;        // the largest error, as a share of what is allowed
  std::string failure;     // the first comparison that failed, or empty
  std::uint64_t bits = 0;  // a checksum of all results: the same in every run
};

class Bench;

struct Check {
  const char* name;
  void (*run)(Bench&);
};

std::vector<Check> checks();
Outcome run(const Check& check, Memory& memory);

}  // namespace foretrain::kernels::cuda
