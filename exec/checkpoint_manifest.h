// What a checkpoint is of, and which files it has: manifest.json in its folder, written last. docs/formats.md has it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plan/job.h"

namespace foretrain::exec {

struct ShardFile {
  std::string name;  // in the checkpoint's folder
  std::int64_t bytes = 0;
  std::uint32_t header_crc = 0;  // the header in turn has the payload's
  friend bool operator==(const ShardFile&, const ShardFile&) = default;
};

struct Manifest {
  std::int64_t step = 0;  // steps done
  std::uint64_t seed = 0;
  std::string data;            // what it trained on, for people
  std::int64_t sequences = 0;  // read so far: where in the data the next step begins
  std::string job;             // resolved, as JSON
  std::vector<ShardFile> shards;
};

// Of a job's run after one step, without files.
Manifest manifest_of_first_step(const plan::Job& job, std::uint64_t seed, const std::string& data);

std::string to_json(const Manifest& manifest);
// Throws InputError, with `origin`, for what to_json() would not have written; a checksum over all of it is among that.
Manifest manifest_from_json(std::string_view text, const std::string& origin);

// Throws InputError, which names every difference, when the state of the manifest's job is not one of this job's:
// another model, optimizer or precision.
void check_same_state(const Manifest& manifest, const plan::Job& job, const std::string& origin);
// What else of the workload is different, in words, and makes this another run: the seed, the data, lengths, the
// optimizer's numbers. Empty: losses go on as they would have.
std::vector<std::string> changes(const Manifest& manifest, const plan::Job& job, std::uint64_t seed,
                                 const std::string& data);

}  // namespace foretrain::exec
