// Token ids as others' tools store them, read where they lie in a mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "workloads/workload.h"

namespace foretrain::workloads {

// Ids of one, two or four bytes each, little-endian, in one or several pieces; a copy shares them.
class Tokens {
 public:
  Tokens() = default;
  // Keeps `owner` of the bytes alive.
  Tokens(std::shared_ptr<const void> owner, const std::byte* data, int width, std::int64_t size)
      : pieces_{{std::move(owner), data, width, 0, size}}, size_(size) {}
  static Tokens of_bytes(std::string bytes);
  static Tokens of_ids(std::vector<std::int32_t> ids);

  void append(const Tokens& more);
  std::int64_t size() const { return size_; }
  // The same ids, count of them from `begin` on. REQUIRES: they lie within.
  Tokens part(std::int64_t begin, std::int64_t count) const;
  void copy(std::int64_t begin, std::int64_t count, std::int32_t* ids) const;
  std::int64_t operator[](std::int64_t i) const { return piece_of(i).id(i); }
  // Index of the first id that is `limit` or more. Reads them all.
  std::optional<std::int64_t> first_from(std::int64_t limit) const;
  std::int64_t largest() const;  // -1 for none; reads them all

 private:
  struct Piece {
    std::shared_ptr<const void> owner;
    const std::byte* data = nullptr;
    int width = 1;
    std::int64_t begin = 0, size = 0;  // of all ids

    std::int64_t end() const { return begin + size; }
    std::int64_t id(std::int64_t i) const;  // begin <= i < end()
  };
  const Piece& piece_of(std::int64_t i) const;

  std::vector<Piece> pieces_;  // in order
  std::int64_t size_ = 0;
};

// What a file is by its name and first bytes, where nobody says: llm.c's by their magic number, Megatron's by the .idx
// beside it or its own end, any other .bin is refused (its width is not known), the rest is text.
DataFormat format_of(const std::string& path);

// The ids of a file in one of the binary formats:
//   llm.c     256 int32: magic 20240520, version 1, count, zeros, then uint16 (GPT-2's ids); or magic 20240801,
//             version 7, then uint32 (Llama 3's) https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py
//   uint16, uint32   nothing but ids, as nanoGPT has them
//   megatron  PATH.idx and PATH.bin: documents one after the other; `path` with or without either end
//             https://github.com/NVIDIA/Megatron-LM/blob/main/megatron/core/datasets/indexed_dataset.py
// Throws InputError that names file, place, what stood there and what is allowed.
Tokens read_token_file(const std::string& path, DataFormat format);

}  // namespace foretrain::workloads
