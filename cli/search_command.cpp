#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/interrupt.h"
#include "cli/search.h"
#include "cli/together.h"
#include "cli/verbs.h"
#include "cli/whole_run.h"
#include "exec/processes.h"
#include "reports/text.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kMostKept = 1000;

struct SearchArguments {
  std::string free, axes, nodes, tokens, output;
  std::int64_t keep = 10;
  bool less_memory = false, mpi = false, json = false;
  std::optional<double> within, time;
};

std::vector<std::string> words_of(const std::string& text, char between) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(between, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

// "8", "8..512" doubling, "8,12,16".
std::vector<std::int64_t> parse_nodes(const std::string& text) {
  const auto refuse = [&]() -> InputError {
    return InputError(
        fmt::format("--nodes: \"{}\" is not allowed; expected FROM..TO, sizes doubling, as 8..512, or a "
                    "list as 8,12,16, from 1 to {}",
                    text, kMostNodes));
  };
  const auto whole = [&](const std::string& word) {
    if (word.empty() || word.size() > 6 || word.find_first_not_of("0123456789") != std::string::npos) {
      throw refuse();
    }
    const std::int64_t n = std::stoll(word);
    if (n < 1 || n > kMostNodes) {
      throw refuse();
    }
    return n;
  };
  std::vector<std::int64_t> all;
  if (const std::size_t dots = text.find(".."); dots != std::string::npos) {
    const std::int64_t from = whole(text.substr(0, dots)), to = whole(text.substr(dots + 2));
    for (std::int64_t n = from; n <= to; n *= 2) {
      all.push_back(n);
    }
  } else {
    for (const std::string& word : words_of(text, ',')) {
      all.push_back(whole(word));
    }
  }
  if (all.empty() || !std::is_sorted(all.begin(), all.end(), std::less_equal<>())) {
    throw refuse();
  }
  return all;
}

plan::OpenJob open_alone(const SearchWishes& wishes) {
  plan::OpenJob open = open_job(wishes);
  if (open.job.cluster.this_machine && !wishes.nodes.empty()) {
    throw InputError("--nodes: this-machine is one; expected a system of 'foretrain list systems'");
  }
  if (open.job.cluster.shares_devices() && wishes.options.less_memory) {
    throw InputError("--less-memory: the ranks of this-machine share its memory; expected a system with devices");
  }
  return open;
}

int report_search(const SearchArguments& a, SearchWishes& wishes, const plan::OpenJob& open, Console& console) {
  const bool speaks = wishes.options.crew.number == 0;
  std::optional<OutputFile> file;  // opened at once: a path that cannot be written is known before the work
  if (!a.output.empty() && speaks) {
    file.emplace(a.output);
  }
  const InterruptWatch watch;
  Progress progress(console, "searching");
  wishes.options.interrupted = watch.flag();
  wishes.options.on_progress = [&](const search::SearchProgress& p) {
    progress.update(p.fraction, fmt::format("{} judged, {} simulated{}", reports::count(p.judged), p.simulated,
                                            p.best == nullptr ? "" : ", best " + to_string(p.best->step_time)));
  };
  const reports::Search found = find_plans(wishes, open, a.json);
  if (found.best && file) {
    file->write(found.best->job + "\n");
    file->commit();
  }
  progress.update(1, "");
  console.result(a.json ? reports::to_json(found).dump(2) + "\n" : reports::to_text(found, console.colour()));
  console.flush();
  watch.throw_if_interrupted();
  if (!found.best) {
    throw InfeasibleError(reports::infeasible_message(found));
  }
  return kOk;
}

}  // namespace

int search_command(const std::vector<std::string>& arguments, Console& console) {
  SearchArguments a;
  SearchWishes wishes;
  Options options("search", "finds the fastest strategy for a job on a cluster, and proves it under the model");
  wishes.job.add_to(options);
  options.text("free", "WORDS", &a.free, "searches words that the job's strategy says: tp,pp, or all of them");
  options.text("axis", "AXIS=VALUES", &a.axes, "values of an axis: tp=2,4,8; more of them with ; between");
  options.text("nodes", "SIZES", &a.nodes, "a search for each size of the cluster: 8..512 doubling, or 8,12,16");
  options.text("tokens", "N", &a.tokens,
               "with days and device-hours of a run over so many tokens, as 15T (of --nodes)");
  options.number("price", &wishes.price, 0, "with money: of a device for an hour, in any currency (of --tokens)");
  options.number("within", &a.within, 0,
                 "ends when no plan can be faster by more than this part: 0.01 [0: proved best]");
  options.number("time", &a.time, 0, "ends after so many seconds with the best so far");
  options.integer("keep", &a.keep, 1, kMostKept, "so many of the best plans [10]");
  options.text("output", "FILE", &a.output, "writes the best plan as a job file", 'o');
  options.flag("less-memory", &a.less_memory,
               "also the fastest plans that do with eighths of a device's memory, proved");
  options.flag("mpi", &a.mpi, "all processes that mpirun started search together");
  options.flag("json", &a.json, "one document, foretrain.search/1");
  options.examples({"foretrain search llama3-70b-64-h100 --free all", "foretrain search job.json -o best.json",
                    "foretrain search job.json --axis 'tp=4,8;pp=1,2,4' --json",
                    "foretrain search llama3-70b-64-h100 --free all --nodes 4..64 --tokens 1T --price 2.5",
                    "mpirun -n 4 foretrain search llama3-70b-64-h100 --free all --mpi"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (a.within && *a.within >= 1) {
    throw InputError(fmt::format("--within: {:g} is not allowed; expected a part from 0 to below 1", *a.within));
  }
  if ((!a.tokens.empty() && a.nodes.empty()) || (wishes.price && a.tokens.empty())) {
    throw InputError(a.nodes.empty()
                         ? "--tokens goes with --nodes: days of each size; of one plan 'foretrain estimate' says more"
                         : "--price goes with --tokens");
  }
  check_price("--price", wishes.price);
  if (!a.tokens.empty()) {
    wishes.tokens = parse_tokens("--tokens", a.tokens);
  }
  wishes.free = words_of(a.free, ',');
  if (!a.nodes.empty()) {
    wishes.nodes = parse_nodes(a.nodes);
  }
  search::SearchOptions& wanted = wishes.options;
  wanted.axes = words_of(a.axes, ';');
  wanted.kept = static_cast<std::size_t>(a.keep);
  wanted.less_memory = a.less_memory;
  wanted.within = a.within.value_or(0);
  wanted.most_seconds = a.time.value_or(0);
  if (!a.mpi) {
    return report_search(a, wishes, open_alone(wishes), console);
  }
  if (!exec::has_launcher()) {
    throw InputError("--mpi: no launcher started this process; expected mpirun -n N foretrain search JOB --mpi");
  }
  const std::unique_ptr<exec::Processes> processes = exec::join_processes();
  wanted.crew = {processes->number(), processes->count(),
                 [&](const std::string& mine) { return processes->all_gather(mine); }};
  plan::OpenJob open;
  const auto prepare = [&] {
    open = open_alone(wishes);
    return plan::document_of(open, *open.given).dump();
  };
  return together(*processes, console, prepare, [&] { return report_search(a, wishes, open, console); });
}

}  // namespace foretrain::cli
