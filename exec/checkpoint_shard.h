// One rank's file of a checkpoint: the part of the training state that this rank answers for, each element under its
// place in its whole tensor, so that ranks of any other strategy find what they need. docs/formats.md has the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "exec/tensor_run.h"

namespace foretrain::exec {

// What a piece holds of its elements. state: weights and moments; anchor and outer_momentum are of local SGD's outer
// optimizer; residual: what a rank's codes of gradients have left out so far; loss_scale: the loss's factor and what
// became of it, of all; turns: by worker, how many of its updates an asynchronous server has made.
enum class Part : std::uint8_t { state, anchor, outer_momentum, residual, loss_scale, turns };
constexpr bool is_of_parameters(Part part) {
  return part != Part::loss_scale && part != Part::turns;
}

struct ShardPiece {
  std::string tensor;
  std::int64_t rows = 0, cols = 0;  // of the whole tensor
  TensorRun run;
  Part part = Part::state;
  Among among;
  friend bool operator==(const ShardPiece&, const ShardPiece&) = default;
};

struct ShardHeader {
  std::int64_t step = 0;      // steps done
  std::int64_t rank = 0;      // that wrote it
  Dtype dtype = Dtype::fp32;  // of what parameters have; else fp64
  int moments = 0;            // the optimizer's: 0, 1 or 2
  // In the payload one behind the other, of a state the weights, then first moments, then second ones.
  std::vector<ShardPiece> pieces;
  std::uint32_t payload_crc = 0;

  int quantities(const ShardPiece& piece) const { return piece.part == Part::state ? 1 + moments : 1; }
  Dtype dtype_of(const ShardPiece& piece) const { return is_of_parameters(piece.part) ? dtype : Dtype::fp64; }
  std::int64_t piece_bytes(const ShardPiece& piece) const {
    return size_bytes(dtype_of(piece), piece.run.elements) * quantities(piece);
  }
  std::int64_t payload_bytes() const;
};

// CRC-32 as zlib and gzip have it; of more bytes behind those that gave `before`.
std::uint32_t crc32(const void* bytes, std::int64_t size, std::uint32_t before = 0);
std::string crc_text(std::uint32_t crc);  // eight hexadecimal digits

inline constexpr std::int64_t kShardPreamble = 16;  // bytes, which tell how long the header is

// What stands before the payload.
std::string to_bytes(const ShardHeader& header);

// Bytes of what stands before the payload in a file that begins with this preamble. Throws InputError, with `origin`,
// for what is no such file.
std::int64_t shard_start_bytes(std::string_view preamble, const std::string& origin);

struct ShardStart {
  ShardHeader header;
  std::uint32_t header_crc = 0;
};
// Reads what stands before the payload. Throws InputError for anything that to_bytes() would not have written.
ShardStart shard_start(std::string_view bytes, const std::string& origin);

}  // namespace foretrain::exec
