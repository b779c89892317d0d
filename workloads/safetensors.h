// The safetensors format (https://github.com/huggingface/safetensors#format): tensors of one or several files, mapped,
// and the writer.
//
//   8 bytes     length of the header, unsigned little-endian
//   the header  a JSON object: tensor name -> {"dtype", "shape", "data_offsets": [begin, end)}, bytes counted from the
//               header's end; "__metadata__" -> strings. Spaces may follow it.
//   the data    row-major, little-endian; every byte belongs to one tensor
//
// A model in several files has "model.safetensors.index.json" beside them: {"weight_map": tensor name -> file}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace foretrain::workloads {

inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kWeightsIndex = "model.safetensors.index.json";

struct StoredTensor {
  std::string name;
  std::string file;  // where it stands, for messages
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // of no alignment

  std::int64_t elements() const;
  // fp64, fp32, fp16 or bf16; none for the others, which are known by their size only.
  std::optional<Dtype> number_type() const;
};

// "[2, 3]".
std::string shape_text(const std::vector<std::int64_t>& shape);

// The tensors that a file's bytes hold, by name; they point into `bytes`. Throws InputError, naming the file and the
// tensor, for a header that is not as above: tensors that overlap, leave gaps or end elsewhere than the file, shapes
// that do not fit their bytes, unknown dtypes, a name twice.
std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, const std::string& file);

// The weights at a path: a file, an index, or a folder that holds kWeightsFile or kWeightsIndex.
class Safetensors {
 public:
  // Throws InputError as above, also for a file that the index names and that is missing or lacks the tensor.
  explicit Safetensors(const std::string& path);
  ~Safetensors();
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;

  const std::string& path() const;
  const std::vector<StoredTensor>& tensors() const;         // by name
  const StoredTensor* find(const std::string& name) const;  // nullptr: there is none

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TensorToStore {
  std::string name;
  std::vector<std::int64_t> shape;
  // Its elements as bytes, asked for once, when they are written: a model need not be held twice.
  std::function<std::string()> bytes;
};

// All of one type. Throws EnvironmentError where a file cannot be written.
void write_safetensors(const std::string& path, Dtype dtype, std::span<const TensorToStore> tensors);
// kWeightsFile in an existing folder; or, where that would be larger than `shard_bytes`, as few files as hold the
// tensors in this order in at most so much each (a larger tensor has one of its own), and kWeightsIndex.
void write_safetensors_folder(const std::string& folder, Dtype dtype, std::span<const TensorToStore> tensors,
                              std::int64_t shard_bytes);

}  // namespace foretrain::workloads
