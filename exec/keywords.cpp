#include "exec/keywords.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/philox.h"

namespace foretrain::exec {

namespace {

constexpr std::uint64_t kStream = 0x6B657977;  // "keyw"
constexpr std::int64_t kMostIds = 100'000'000;
constexpr std::int32_t kFirst = 1, kFirstKeyword = 2;

// A number in [from, to), of a draw in [0, 1).
std::int64_t between(std::int64_t from, std::int64_t to, double draw) {
  return from + static_cast<std::int64_t>(draw * static_cast<double>(to - from));
}

}  // namespace

Keywords::Keywords(const workloads::Workload& workload, Part part, std::uint64_t seed, const Dealing& dealing)
    : seq_len_(workload.seq_len) {
  const workloads::DataSpec& data = workload.data;
  const bool trains = part == Part::training;
  count_ = synthetic_count(data, trains);
  epochs_ = synthetic_epochs(workload, trains, dealing, seed, "sequences");
  if (count_ > kMostIds / seq_len_) {
    throw InputError(
        fmt::format("data: {} sequences of {} tokens; expected at most {} tokens in all", count_, seq_len_, kMostIds));
  }
  ids_.resize(static_cast<std::size_t>(count_ * seq_len_));
  const std::int64_t classes = workload.model.classes, shortest = std::max<std::int64_t>(2, seq_len_ / 4);
  for (std::int64_t i = 0; i < count_; ++i) {
    const auto number = static_cast<std::uint64_t>(trains ? i : data.samples + i);
    const auto draw = [&](std::int64_t which) {
      return kernels::philox_uniform(seed ^ kStream << 32, number, static_cast<std::uint64_t>(which)).first;
    };
    std::int32_t* const ids = ids_.data() + i * seq_len_;
    const std::int64_t length = between(shortest, seq_len_ + 1, draw(0)), told = between(0, classes, draw(1));
    ids[0] = kFirst;
    for (std::int64_t t = 1; t < length; ++t) {
      ids[t] = static_cast<std::int32_t>(between(kFirstKeyword + classes, workload.model.vocab, draw(2 + t)));
    }
    ids[between(1, length, draw(2))] = static_cast<std::int32_t>(kFirstKeyword + told);
    lengths_.push_back(static_cast<double>(length));
    classes_.push_back(static_cast<double>(told));
  }
}

void Keywords::sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const {
  CHECK(seq_len == seq_len_, "sequences of {} tokens, not {}", seq_len_, seq_len);
  std::copy_n(ids_.begin() + epochs_.item(step, index_in_batch) * seq_len_, seq_len_, ids);
  ids[seq_len_] = 0;
}

Sample Keywords::sample(std::int64_t step, std::int64_t index_in_batch) const {
  const auto item = static_cast<std::size_t>(epochs_.item(step, index_in_batch));
  return {{&lengths_[item], 1}, {&classes_[item], 1}};
}

}  // namespace foretrain::exec
