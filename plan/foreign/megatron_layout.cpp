#include "plan/foreign/megatron_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace foretrain::plan {

namespace {

constexpr std::size_t kMostItems = 1'000'000;

// The layout without repetitions.
class Expansion {
 public:
  explicit Expansion(std::string_view text) : text_(text) {}

  std::optional<std::string> all() {
    std::string out = list(0);
    return ok_ && at_ == text_.size() ? std::optional(std::move(out)) : std::nullopt;
  }

 private:
  std::string list(int depth) {
    std::string out;
    ok_ &= depth <= 8;
    while (ok_ && at_ < text_.size() && text_[at_] != ')') {
      const char c = text_[at_++];
      std::string item(1, c);
      if (c == '(') {
        item = list(depth + 1);
        ok_ &= at_ < text_.size() && text_[at_++] == ')';
      }
      std::size_t times = 1;
      if (ok_ && at_ < text_.size() && text_[at_] == '*') {
        const auto end = std::from_chars(text_.data() + at_ + 1, text_.data() + text_.size(), times);
        ok_ &= end.ec == std::errc{};
        at_ = static_cast<std::size_t>(end.ptr - text_.data());
      }
      ok_ &= times <= kMostItems && out.size() + item.size() * times <= kMostItems;
      for (std::size_t i = 0; ok_ && i < times; ++i) {
        out += item;
      }
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace

std::optional<std::vector<std::int64_t>> layout_layers(std::string_view layout) {
  std::string plain(layout);
  std::erase_if(plain, [](char c) { return c == ',' || c == ' '; });
  const auto all = Expansion(plain).all();
  if (!all || all->find_first_not_of("EtmL|") != std::string::npos) {
    return std::nullopt;
  }
  std::vector<std::int64_t> layers(1, 0);
  for (const char c : *all) {
    if (c == '|') {
      layers.push_back(0);
    } else {
      layers.back() += c == 't' ? 1 : 0;
    }
  }
  return layers;
}

std::string layout_of(const std::vector<std::int64_t>& layers) {
  std::string out = "E";
  for (std::size_t i = 0; i < layers.size(); ++i) {
    out += i > 0 ? "|" : "";
    if (layers[i] > 0) {
      out += layers[i] == 1 ? "t" : fmt::format("t*{}", layers[i]);
    }
  }
  return out + "L";
}

std::optional<std::vector<std::int64_t>> megatron_split(std::int64_t layers, std::int64_t pp, std::int64_t chunks,
                                                        std::optional<std::int64_t> first,
                                                        std::optional<std::int64_t> last, bool embedding, bool loss) {
  const std::int64_t stages = pp * chunks;
  std::vector<std::int64_t> split(static_cast<std::size_t>(stages));
  if (embedding || loss) {
    const std::int64_t items = layers + (embedding ? 1 : 0) + (loss ? 1 : 0);
    std::fill(split.begin(), split.end(), items / stages);
    split.front() -= embedding ? 1 : 0;
    split.back() -= loss ? 1 : 0;
    return items % stages == 0 && split.front() >= 0 && split.back() >= 0 ? std::optional(split) : std::nullopt;
  }
  const std::int64_t others = pp - (first ? 1 : 0) - (last ? 1 : 0);
  const std::int64_t rest = layers - first.value_or(0) - last.value_or(0);
  if (rest < 0 || (others == 0 && rest > 0) || (others > 0 && rest % (others * chunks) != 0) ||
      first.value_or(0) % chunks != 0 || last.value_or(0) % chunks != 0) {
    return std::nullopt;
  }
  for (std::int64_t s = 0; s < stages; ++s) {
    const std::int64_t rank = s % pp;
    const std::int64_t of_rank = rank == 0 && first       ? *first
                                 : rank == pp - 1 && last ? *last
                                                          : rest / std::max<std::int64_t>(1, others);
    split[static_cast<std::size_t>(s)] = of_rank / chunks;
  }
  return split;
}

}  // namespace foretrain::plan
