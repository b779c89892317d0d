// Text as training data: bytes are tokens (0 to 255), the last tenth is kept for validation.
//
// A sequence is a window of seq_len + 1 bytes; windows start every seq_len bytes, so that each byte is once an input.
// In each epoch the windows come in another order, a permutation that depends on the seed and the epoch only. A step
// takes the next global_batch windows. Windows left over at the end of an epoch, too few for a whole step, are skipped
// in that epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "exec/executor.h"

namespace foretrain::exec {

struct Text {
  std::string name;  // what it is, for people
  std::string bytes;

  std::string_view training() const { return std::string_view(bytes).substr(0, bytes.size() - bytes.size() / 10); }
  std::string_view validation() const { return std::string_view(bytes).substr(bytes.size() - bytes.size() / 10); }
};

// The file at `path`; or, for "", the licence texts that every Debian system carries (the regular files of
// /usr/share/common-licenses, in order of name), read where they are. Throws InputError for what is missing, unreadable
// or no regular file.
Text load_text(const std::string& path);

// Windows of one of the two parts, `sequences_per_step` at a time.
class TextWindows : public DataSource {
 public:
  enum class Order : std::uint8_t { shuffled, as_written };

  // `part` is of a text that outlives this. Throws InputError when the part is shorter than one step, with the bytes
  // that are needed, and for a vocabulary below 256.
  TextWindows(const Text& text, std::string_view part, std::int64_t seq_len, std::int64_t sequences_per_step,
              std::int64_t vocab, Order order, std::uint64_t seed);

  void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const override;
  std::int64_t windows() const { return windows_; }
  std::int64_t steps_per_epoch() const { return windows_ / sequences_per_step_; }

 private:
  std::string_view part_;
  std::int64_t seq_len_, sequences_per_step_, windows_;
  Order order_;
  std::uint64_t seed_;
};

// What a training run of this workload reads.
TextWindows training_windows(const Text& text, std::int64_t seq_len, std::int64_t global_batch, std::int64_t vocab,
                             std::uint64_t seed);

// Cross entropy in nats per byte of the validation part under the byte frequencies of the training part, one occurrence
// of each of the 256 bytes added: what a model that knows no context reaches.
double unigram_loss(const Text& text);

// Element `index` of a permutation of 0 … size - 1 that `key` names. REQUIRES: 0 <= index < size.
std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key);

}  // namespace foretrain::exec
