#include "topologies/nccl_tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace foretrain::topologies {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 11> kNames{{{"all_reduce", "all_reduce"},
                                                                      {"allreduce", "all_reduce"},
                                                                      {"reduce_scatter", "reduce_scatter"},
                                                                      {"reducescatter", "reduce_scatter"},
                                                                      {"all_gather", "all_gather"},
                                                                      {"allgather", "all_gather"},
                                                                      {"alltoall", "all_to_all"},
                                                                      {"all_to_all", "all_to_all"},
                                                                      {"sendrecv", "sendrecv"},
                                                                      {"broadcast", "broadcast"},
                                                                      {"reduce", "reduce"}}};

// Of a program or a file; "" where it names none.
std::string collective_in(std::string_view text) {
  for (const auto& [word, collective] : kNames) {
    if (text.find(word) != std::string_view::npos) {
      return collective;
    }
  }
  return "";
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string w; in >> w;) {
    words.push_back(w);
  }
  return words;
}

bool is_count(std::string_view word) {
  return !word.empty() && word.find_first_not_of("0123456789") == std::string_view::npos;
}

// Launchers put the rank before each line: mpirun --tag-output "[1,0]<stdout>:", srun --label "0: ".
std::string without_label(std::string line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) {
    line.pop_back();
  }
  if (line.starts_with("[")) {
    const std::size_t end = line.find("]<stdout>:");
    return end == std::string::npos ? line : line.substr(end + 10);
  }
  const std::size_t begin = line.find_first_not_of(' '), colon = line.find(": ");
  return colon != std::string::npos && begin < colon && is_count(std::string_view(line).substr(begin, colon - begin))
             ? line.substr(colon + 2)
             : line;
}

class Reader {
 public:
  Reader(std::string_view text, const std::string& origin) : origin_(origin) {
    std::istringstream in{std::string(text)};
    for (std::string line; std::getline(in, line);) {
      ++at_;
      take(without_label(std::move(line)));
    }
    finish_sweep();
    if (!unfinished_.empty()) {
      result_.warnings.push_back(unfinished_ + ": the output ends there; the row is left out");
    }
    if (result_.sweeps.empty()) {
      throw InputError(
          fmt::format("{}: no rows of nccl-tests; expected '# size count type ... time algbw busbw' and rows of at "
                      "least one byte",
                      origin));
    }
  }

  NcclTests result() { return std::move(result_); }

 private:
  void take(const std::string& line) {
    const std::vector<std::string> w = words_of(line);
    if (w.empty()) {
      return;
    }
    if (time_ > 0 && is_count(w[0]) && (w.size() == 1 || is_count(w[1]))) {
      take_row(w);
    } else if (w[0] != "#") {
      take_program(w);
    } else if (w.size() > 1 && w[1] == "nThread") {
      finish_sweep();
      hosts_.clear();
      sweep_.gpu.clear();
      time_ = 0;
    } else if (w.size() > 4 && w[1] == "Collective" &&
               w[2] == "test") {  // "# Collective test starting: all_reduce_perf"
      start(collective_in(w[4]));
    } else if (w.size() > 2 && w[1] == "Rank") {
      take_rank(w, line);
    } else if (w.size() > 1 && w[1] == "size") {
      take_columns(w);
    }
  }

  void start(const std::string& collective) {
    if (!collective.empty()) {
      finish_sweep();
      program_ = collective;
    }
  }

  // A command line: "mpirun ... /opt/nccl-tests/build/all_reduce_perf -b 8".
  void take_program(const std::vector<std::string>& w) {
    for (const std::string& word : w) {
      const std::size_t end = word.find("_perf");
      if (end != std::string::npos) {
        start(collective_in(word.substr(word.rfind('/', end) + 1)));
      }
    }
  }

  void take_rank(const std::vector<std::string>& w, const std::string& line) {
    const auto on = std::find(w.begin(), w.end(), "on"), device = std::find(on, w.end(), "device");
    if (on == w.end() || device == w.end()) {
      throw InputError(fmt::format("{}:{}: \"{}\"; expected '# Rank R ... on HOST device D'", origin_, at_, line));
    }
    const auto group = std::find(w.begin(), w.end(), "Group");
    if (group != w.end() && group + 1 != w.end() && *(group + 1) != "0") {
      ++in_other_groups_;
      return;
    }
    ++hosts_[*(on + 1)];
    const std::size_t bracket = line.rfind(']');
    sweep_.gpu = bracket == std::string::npos || bracket + 2 > line.size() ? "" : line.substr(bracket + 2);
  }

  void take_columns(const std::vector<std::string>& w) {
    if (!sweep_.rows.empty()) {
      finish_sweep();
    }
    const auto column = [&](const char* name) {
      return static_cast<std::size_t>(std::find(w.begin(), w.end(), name) - w.begin());
    };
    if (column("time") + 2 >= w.size() || w[column("time") + 2] != "busbw") {
      throw InputError(fmt::format("{}:{}: columns \"{}\"; expected size, count, type, ..., time, algbw, busbw",
                                   origin_, at_, fmt::join(w.begin() + 1, w.end(), " ")));
    }
    time_ = column("time") - 1;
    redop_ = column("redop") < w.size() ? column("redop") - 1 : 0;
    root_ = column("root") < w.size() ? column("root") - 1 : 0;
    wrong_ = column("#wrong") == column("time") + 3 ? time_ + 3 : 0;
  }

  double number(const std::string& word, const char* column) const {
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    constexpr double kMost = 1e15;
    if (error != std::errc() || end != word.data() + word.size() || !(value >= 0) || value > kMost) {
      throw InputError(fmt::format("{}:{}: {} \"{}\"; expected a number of at least 0", origin_, at_, column, word));
    }
    return value;
  }

  void take_row(const std::vector<std::string>& w) {
    if (!unfinished_.empty()) {
      throw InputError(unfinished_);
    }
    if (w.size() < time_ + 3) {
      unfinished_ = fmt::format("{}:{}: {} columns; expected {} up to busbw", origin_, at_, w.size(), time_ + 3);
      return;
    }
    const NcclSweep::Row row{static_cast<std::int64_t>(number(w[0], "size")), number(w[time_], "time") * 1e-6,
                             number(w[time_ + 2], "busbw") * 1e9};
    if (wrong_ > 0 && wrong_ < w.size() && is_count(w[wrong_]) && w[wrong_] != "0" && wrong_rows_++ == 0) {
      first_wrong_ = fmt::format("{}:{}: {} wrong values of {} bytes", origin_, at_, w[wrong_], row.bytes);
    }
    if (row.bytes > 0 && row.seconds > 0) {  // sizes below one element per rank are printed as 0
      sweep_.rows.push_back(row);
      redop_word_ = redop_ > 0 ? w[redop_] : "";
      root_word_ = root_ > 0 ? w[root_] : "-1";
    }
  }

  // all_gather and all_to_all print the same columns, all else tells itself apart.
  std::string by_columns() const {
    const NcclSweep::Row& last = sweep_.rows.back();
    const double n = sweep_.ranks, factor = last.busbw * last.seconds / static_cast<double>(last.bytes);
    const auto is = [factor](double expected) { return std::abs(factor / expected - 1) < 0.05; };
    const bool reduces = !redop_word_.empty() && redop_word_ != "none";
    if (root_word_ != "-1") {
      return reduces ? "reduce" : "broadcast";
    }
    if (n < 2) {
      return "";
    }
    return reduces && is(2 * (n - 1) / n) ? "all_reduce" : reduces && is((n - 1) / n) ? "reduce_scatter" : "";
  }

  void finish_sweep() {
    if (!sweep_.rows.empty()) {
      sweep_.origin = origin_;
      sweep_.nodes = static_cast<int>(hosts_.size());
      sweep_.ranks = sweep_.fewest = 0;
      for (const auto& [host, ranks] : hosts_) {
        sweep_.ranks += ranks;
        sweep_.fewest = sweep_.fewest == 0 ? ranks : std::min(sweep_.fewest, ranks);
      }
      std::stable_sort(sweep_.rows.begin(), sweep_.rows.end(),
                       [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
      sweep_.collective = program_.empty() ? collective_in(origin_.substr(origin_.rfind('/') + 1)) : program_;
      sweep_.collective = sweep_.collective.empty() ? by_columns() : sweep_.collective;
      if (wrong_rows_ > 0) {
        result_.warnings.push_back(
            fmt::format("{}, and {} more such rows: the network or the library computed wrong sums; its times are used",
                        first_wrong_, wrong_rows_ - 1));
      }
      if (in_other_groups_ > 0) {
        result_.warnings.push_back(fmt::format(
            "{}: {} ranks of other groups ran at the same time; the times are those of groups that share the network",
            origin_, in_other_groups_));
      }
      result_.sweeps.push_back(sweep_);
    }
    sweep_.rows.clear();
    wrong_rows_ = in_other_groups_ = 0;
  }

  const std::string origin_;
  NcclTests result_;
  NcclSweep sweep_;
  std::map<std::string, int> hosts_;
  std::string program_, unfinished_, first_wrong_, redop_word_, root_word_;
  std::size_t time_ = 0, redop_ = 0, root_ = 0, wrong_ = 0;  // columns; 0: not there
  int at_ = 0, wrong_rows_ = 0, in_other_groups_ = 0;
};

}  // namespace

bool is_nccl_tests(std::string_view text) {
  return text.find("# nThread ") != std::string_view::npos ||
         (text.find("algbw") != std::string_view::npos && text.find("busbw") != std::string_view::npos);
}

NcclTests read_nccl_tests(std::string_view text, const std::string& origin) {
  return Reader(text, origin).result();
}

}  // namespace foretrain::topologies
