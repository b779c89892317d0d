// Manifests and shards' headers of checkpoints. What is read without a mistake is written and read back to the same.
// The same inputs again with their checksums set right: else hardly one would come past them.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "exec/checkpoint_manifest.h"
#include "exec/checkpoint_shard.h"

namespace {

using namespace foretrain;  // NOLINT(google-build-using-namespace): this file is one function

// The text as the header of a shard.
std::string as_shard(const std::string& text) {
  std::string shard = exec::to_bytes(exec::ShardHeader{}).substr(0, 8);
  const auto size = static_cast<std::uint32_t>(text.size());
  for (const std::uint32_t value : {size, exec::crc32(text.data(), size)}) {
    for (int shift = 0; shift < 32; shift += 8) {
      shard += static_cast<char>(value >> shift & 0xFF);
    }
  }
  shard += text;
  shard.resize((shard.size() + 63) / 64 * 64, '\0');
  return shard;
}

std::string with_checksum(const std::string& text) {
  nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_object() || !document.contains("content")) {
    return text;
  }
  const std::string content = document["content"].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  document["crc32"] = exec::crc32(content.data(), static_cast<std::int64_t>(content.size()));
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void read_shard(const std::string& bytes) {
  try {
    const exec::ShardHeader header = exec::shard_start(bytes, "input").header;
    const exec::ShardHeader again = exec::shard_start(exec::to_bytes(header), "again").header;
    CHECK(header.pieces == again.pieces && header.payload_bytes() == again.payload_bytes(), "came back changed");
  } catch (const InputError&) {
  }
}

void read_manifest(const std::string& text) {
  static const plan::Job job = plan::job_from_text(
      R"({"version": 1, "workload": {"model": "tiny-gpt", "seq_len": 16, "global_batch": 2},
          "cluster": {"system": "this-machine"}})",
      "fuzz", {});
  try {
    const exec::Manifest manifest = exec::manifest_from_json(text, "input");
    const std::string first = exec::to_json(manifest);
    const std::string again = exec::to_json(exec::manifest_from_json(first, "again"));
    CHECK(first == again, "{}\ncame back as\n{}", first, again);
    exec::changes(manifest, job, 1, "data");
    exec::check_same_state(manifest, job, "input");
  } catch (const InputError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  read_shard(text);
  read_shard(as_shard(text));
  read_manifest(text);
  read_manifest(with_checksum(text));
  return 0;
}
