#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "workloads/safetensors.h"

namespace foretrain::workloads {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kAlignment = 8;  // of the data, as the format's own writer has it

const char* word_of(Dtype d) {
  switch (d) {
    case Dtype::fp64: return "F64";
    case Dtype::fp32:
    case Dtype::tf32: return "F32";
    case Dtype::fp16: return "F16";
    case Dtype::bf16: return "BF16";
    default: CHECK(false, "weights in {}", name(d));
  }
  return "";
}

std::int64_t bytes_of(const TensorToStore& tensor, Dtype dtype) {
  std::int64_t elements = 1;
  for (const std::int64_t size : tensor.shape) {
    elements *= size;
  }
  return size_bytes(dtype, elements);
}

}  // namespace

void write_safetensors(const std::string& path, Dtype dtype, std::span<const TensorToStore> tensors) {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};  // the transformers library asks for it
  std::int64_t end = 0;
  for (const TensorToStore& tensor : tensors) {
    const std::int64_t begin = end;
    end += bytes_of(tensor, dtype);
    header[tensor.name] = {{"dtype", word_of(dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string length;
  for (std::size_t i = 0; i < 8; ++i) {
    length += static_cast<char>(text.size() >> (8 * i) & 0xff);
  }
  OutputFile file(path);
  file.write(length);
  file.write(text);
  for (const TensorToStore& tensor : tensors) {
    const std::string bytes = tensor.bytes();
    CHECK(std::ssize(bytes) == bytes_of(tensor, dtype), "{}: {} bytes", tensor.name, bytes.size());
    file.write(bytes);
  }
  file.commit();
}

void write_safetensors_folder(const std::string& folder, Dtype dtype, std::span<const TensorToStore> tensors,
                              std::int64_t shard_bytes) {
  std::vector<std::span<const TensorToStore>> shards;
  std::int64_t total = 0, in_shard = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t bytes = bytes_of(tensors[i], dtype);
    if (in_shard > 0 && in_shard + bytes > shard_bytes) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      in_shard = 0;
    }
    in_shard += bytes;
    total += bytes;
  }
  shards.push_back(tensors.subspan(first));
  const std::filesystem::path place(folder);
  if (shards.size() == 1) {
    write_safetensors((place / kWeightsFile).string(), dtype, tensors);
    return;
  }
  Json index{{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors((place / name).string(), dtype, shards[i]);
    for (const TensorToStore& tensor : shards[i]) {
      index["weight_map"][tensor.name] = name;
    }
  }
  // Last: without it the folder holds no model.
  write_file((place / kWeightsIndex).string(), index.dump(2) + "\n");
}

}  // namespace foretrain::workloads
