// Text as training data: token ids, the last tenth kept for validation where no other text is named for it. Without a
// tokenizer bytes are ids (0 to 255).
//
// A sequence is a window of seq_len + 1 ids; windows start every seq_len ids, so that each id is once an input. In each
// epoch the windows come in another order, a permutation that depends on the seed and the epoch only (in every epoch
// the same one, where they are not reshuffled). A step takes the next global_batch windows: what it takes depends on
// its number and the seed alone, so that a run may go on in the middle of an epoch. Windows left over at the end of an
// epoch, too few for a whole step, are skipped in that epoch (last_batch drop), or stand in one step with the first of
// the next (wrap).
//
// distribution block: each data-parallel rank takes its part of a step from a contiguous block of the windows, in the
// order of a permutation of that block; the last windows, fewer than ranks, are in none. sequential: the order is that
// of the data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "exec/executor.h"
#include "workloads/token_file.h"
#include "workloads/tokenizer.h"
#include "workloads/workload.h"

namespace foretrain::exec {

struct Text {
  std::string name;  // what it is, for people
  workloads::Tokens training, validation;
  std::shared_ptr<const workloads::Tokenizer> tokenizer;  // of the ids; none where they are bytes, or nobody knows it
  bool is_bytes = true;
  std::int64_t ids = 256;  // all ids are below
  workloads::LastBatch last_batch = workloads::LastBatch::drop;

  const char* unit() const { return is_bytes ? "bytes" : "tokens"; }
  // What an id stands for: "" where nobody knows.
  std::string_view bytes(std::int64_t id) const;
};

// The bytes as text, as they are.
Text text_of(std::string name, std::string bytes);

// A made data set: sequences of `seq_len` random ids below `vocab`, each followed by itself back to front. `start`
// stands in none; the same for everybody.
Text reversals(std::int64_t seq_len, std::int64_t vocab, std::int64_t start);

// The data set of a workload; for the path "", the licence texts that every Debian system carries (the regular files of
// /usr/share/common-licenses, in order of name), read where they are. A folder stands for the regular files in it, in
// order of name, hidden ones aside, one after the other: texts, or token ids. Throws InputError for what is missing,
// unreadable or not what its format says.
Text load_text(const workloads::DataSpec& data);

// How items are dealt out. Blocks are those of `ranks` that take `together` items of each microbatch.
struct Dealing {
  workloads::Distribution distribution = workloads::Distribution::random;
  bool reshuffles = true;
  std::int64_t ranks = 1, together = 1;
  std::int64_t first = 0;  // so many of the data, the first ones; 0: all

  std::int64_t blocks() const { return distribution == workloads::Distribution::block ? ranks : 1; }
};

// Which of an epoch's items each step takes, as said above.
struct Epochs {
  std::int64_t items = 0, per_step = 1;  // REQUIRES: multiples of the dealing's blocks
  workloads::LastBatch last_batch = workloads::LastBatch::drop;
  Dealing dealing;
  std::uint64_t seed = 0;

  std::int64_t steps() const { return items / per_step; }  // whole ones
  std::int64_t left_over() const { return items % per_step; }
  // Steps after which so many epochs are over.
  std::int64_t steps_of(std::int64_t epochs) const;
  DataPlace place(std::int64_t step, std::int64_t index_in_batch) const;
  std::int64_t item(std::int64_t step, std::int64_t index_in_batch) const { return place(step, index_in_batch).item; }
};

// As they are written.
inline constexpr Dealing kAsWritten{workloads::Distribution::sequential, false};

// Of samples that are made up (data.synthetic): to train on, or a tenth as many, to validate with, one by one.
std::int64_t synthetic_count(const workloads::DataSpec& data, bool trains);
// Throws InputError where they are fewer than a step's; `what`: their word.
Epochs synthetic_epochs(const workloads::Workload& workload, bool trains, const Dealing& dealing, std::uint64_t seed,
                        std::string_view what);

// Windows of one of the two parts, `sequences_per_step` at a time.
class TextWindows : public DataSource {
 public:
  enum class Part : std::uint8_t { training, validation };
  // Of a text that outlives this. Throws InputError when the part is shorter than one step, with the ids that are
  // needed, and for a vocabulary without one of the ids.
  TextWindows(const Text& text, Part part, std::int64_t seq_len, std::int64_t sequences_per_step, std::int64_t vocab,
              const Dealing& dealing, std::uint64_t seed);

  void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const override;
  DataPlace place(std::int64_t step, std::int64_t index_in_batch) const override {
    return epochs_.place(step, index_in_batch);
  }
  std::int64_t windows() const { return epochs_.items; }
  const Epochs& epochs() const { return epochs_; }

 private:
  workloads::Tokens part_;
  std::int64_t seq_len_;
  Epochs epochs_;
};

// What a training run of this workload reads.
TextWindows training_windows(const Text& text, std::int64_t seq_len, std::int64_t global_batch, std::int64_t vocab,
                             std::uint64_t seed, const Dealing& dealing = {});

// Cross entropy in nats per id of the validation part under the frequencies of ids in the training part, one occurrence
// of each id added: what a model that knows no context reaches.
double unigram_loss(const Text& text);

// Bytes that an id of the validation part stands for, in the mean; none where nobody knows.
std::optional<double> bytes_per_id(const Text& text);

}  // namespace foretrain::exec
