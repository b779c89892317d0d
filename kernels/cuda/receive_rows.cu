#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/with_bits.h"
#include "kernels/launch.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocks = 128;  // of a member: how many rows it sends is known on the GPU alone

template <class U>
struct Senders {
  const U* rows[kMostSenders];
  const std::int32_t* to[kMostSenders];
};

template <class U>
__global__ void receive_rows_kernel(Senders<U> senders, unsigned index, std::int64_t row, U* y) {
  const unsigned member = blockIdx.y;
  std::int64_t before = 0, arrived = 0;
  for (unsigned j = 0; j < index; ++j) {
    before += senders.to[member][j];
  }
  for (unsigned m = 0; m < member; ++m) {
    arrived += senders.to[m][index];
  }
  const std::int64_t n = senders.to[member][index] * row;
  const U* const from = senders.rows[member] + before * row;
  U* const to = y + arrived * row;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    to[i] = from[i];
  }
}

// Of the widest element that all of it is made of.
int common_bits(std::span<const ReceivedRows> members, std::int64_t row_bytes, const void* y) {
  auto bits = static_cast<std::uintptr_t>(row_bytes) | reinterpret_cast<std::uintptr_t>(y);
  for (const ReceivedRows& member : members) {
    bits |= reinterpret_cast<std::uintptr_t>(member.rows);
  }
  return bits % 8 == 0 ? 64 : bits % 4 == 0 ? 32 : bits % 2 == 0 ? 16 : 8;
}

}  // namespace

void receive_rows(const Stream& stream, std::span<const ReceivedRows> members, std::int64_t index,
                  std::int64_t row_bytes, void* y) {
  check_sizes("receive_rows", {index, row_bytes});
  check_most("receive_rows", "members", std::ssize(members), kMostSenders);
  with_bits(common_bits(members, row_bytes, y), [&](auto type) {
    using U = typename decltype(type)::type;
    Senders<U> senders{};
    for (std::size_t m = 0; m < members.size(); ++m) {
      senders.rows[m] = static_cast<const U*>(members[m].rows);
      senders.to[m] = members[m].to;
    }
    launch(receive_rows_kernel<U>, {kBlocks, static_cast<unsigned>(members.size())}, {kThreads}, stream, senders,
           static_cast<unsigned>(index), row_bytes / static_cast<std::int64_t>(sizeof(U)), static_cast<U*>(y));
  });
}

}  // namespace foretrain::kernels::cuda
