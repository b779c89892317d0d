#include "cli/together.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <set>
#include <thread>

#include "base/error.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"
#include "cli/version.h"

namespace foretrain::cli {

namespace {

constexpr std::chrono::milliseconds kToSpeak{10000}, kLook{10};

// "0-3,8": runs of neighbours.
std::string core_ranges(const std::vector<int>& cores) {
  std::string text;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) {
      ++last;
    }
    text += fmt::format("{}{}", text.empty() ? "" : ",", cores[i]);
    text += last > i ? fmt::format("-{}", cores[last]) : "";
    i = last + 1;
  }
  return text;
}

// "": every host's ranks have a core each.
std::string shared_cores(const exec::Processes& processes, std::int64_t each) {
  const std::vector<int> hosts = processes.hosts();
  std::string text;
  for (int host = 0; host <= *std::max_element(hosts.begin(), hosts.end()); ++host) {
    std::set<int> cores;
    std::int64_t ranks = 0;
    std::string name;
    for (std::size_t p = 0; p < hosts.size(); ++p) {
      if (hosts[p] == host) {
        const exec::Place& place = processes.places()[p];
        cores.insert(place.cores.begin(), place.cores.end());
        ranks += each;
        name = place.host;
      }
    }
    if (ranks > std::ssize(cores)) {
      text +=
          fmt::format("\n  {} ranks on {} share {} core{}: mpirun binds a process to one, unless with --bind-to none",
                      ranks, name, cores.size(), cores.size() == 1 ? "" : "s");
    }
  }
  return text;
}

// Process 0 speaks; should it be lost, or stopped, the first that is left.
int speaker(const exec::Processes& processes) {
  int first = 0;
  while (first < processes.number() && !processes.is_left(first)) {
    ++first;
  }
  return first;
}

// A launcher ends all processes once one has failed: by then the one that speaks shall have spoken.
void let_speak(exec::Processes& processes, int speaker) {
  const auto end = std::chrono::steady_clock::now() + kToSpeak;
  while (!processes.has_reported(speaker) && processes.is_left(speaker) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kLook);
  }
}

// Of what is being thrown in all processes; the exit status. To be called in a catch.
int report_in_turn(exec::Processes& processes, Console& console) {
  const int first = speaker(processes);
  if (first == processes.number()) {
    console.unmute();
  }
  const int status = report_failure(console);
  try {
    if (first == processes.number()) {
      processes.say_reported();
    } else {
      let_speak(processes, first);
    }
  } catch (const Error&) {
    // Whatever broke meanwhile: what went wrong before counts.
  }
  return status;
}

void prepare_together(exec::Processes& processes, const std::function<std::string()>& prepare) {
  if (processes.count() == 1) {
    prepare();
    return;
  }
  // A letter for the kind of the outcome, then its words.
  std::string outcome;
  try {
    outcome = "=" + std::string(kVersion) + " " + kCommit + "\n" + prepare();
  } catch (const InputError& e) {
    outcome = fmt::format("{}{}", kBadInput, e.what());
  } catch (const InfeasibleError& e) {
    outcome = fmt::format("{}{}", kInfeasible, e.what());
  } catch (const EnvironmentError& e) {
    outcome = fmt::format("{}{}", kEnvironment, e.what());
  } catch (const std::exception& e) {
    outcome = fmt::format("{}{}", kInternal, e.what());
  }
  const std::vector<std::string> all = processes.all_gather(outcome);
  const auto first_failed = std::find_if(all.begin(), all.end(), [](const std::string& o) { return o.front() != '='; });
  const auto first_other = std::find_if(all.begin(), all.end(), [&](const std::string& o) { return o != all.front(); });
  if (first_failed == all.end() && first_other == all.end()) {
    return;
  }
  const auto culprit = static_cast<int>((first_failed != all.end() ? first_failed : first_other) - all.begin());
  const int status = first_failed != all.end() ? first_failed->front() - '0' : kBadInput;
  if (first_failed == all.end()) {
    const std::string own = all.front().substr(0, all.front().find('\n'));
    const std::string other = first_other->substr(0, first_other->find('\n'));
    throw InputError(
        own != other
            ? fmt::format("{} runs another foretrain ({} instead of {}); all processes must run the same",
                          processes.describe(culprit), other.substr(1), own.substr(1))
            : fmt::format("{} has read another job than rank 0, or other data; all processes must find the same files",
                          processes.describe(culprit)));
  }
  const std::string words = (culprit == 0 ? "" : processes.describe(culprit) + ": ") + first_failed->substr(1);
  switch (status) {
    case kBadInput: throw InputError(words);
    case kInfeasible: throw InfeasibleError(words);
    case kEnvironment: throw EnvironmentError(words);
    default: throw InternalError(words);
  }
}

}  // namespace

int together(exec::Processes& processes, Console& console, const std::function<std::string()>& prepare,
             const std::function<int()>& command) {
  if (processes.number() != 0) {
    console.mute();
  }
  try {
    prepare_together(processes, prepare);
  } catch (const Error&) {
    return report_in_turn(processes, console);
  }
  try {
    return command();
  } catch (const Interrupted& e) {
    processes.fail(e.what());
    throw;
  } catch (const std::exception& e) {
    if (processes.failure() == Interrupted().what()) {
      throw Interrupted();  // another process was
    }
    processes.fail(fmt::format("{}: {}", processes.describe(processes.number()), e.what()));
    return report_in_turn(processes, console);
  }
}

std::string rank_table(const exec::Processes& processes, const plan::Strategy& strategy) {
  const std::int64_t ranks = strategy.ranks(), each = ranks / processes.count();
  const std::int64_t workers = strategy.workers();
  const char* const other = strategy.servers > 0 ? "server" : "loader";
  const auto line = [&](const std::string& rank, const char* role, const std::string& host, const std::string& pid,
                        const std::string& cores) {
    return fmt::format("\n  {:<9} {}{:<20} {:>8}  {}", rank, workers < ranks ? fmt::format("{:<7} ", role) : "", host,
                       pid, cores);
  };
  std::string text = fmt::format("{} ranks in {} processes, started by {} ({})", ranks, processes.count(),
                                 processes.launcher(), processes.library());
  text += line("rank", "role", "host", "pid", "cores");
  for (int p = 0; p < processes.count(); ++p) {
    const exec::Place& place = processes.places()[static_cast<std::size_t>(p)];
    const std::int64_t begin = p * each, end = begin + each;
    text += line(each == 1 ? fmt::format("{}", p) : fmt::format("{}-{}", begin, end - 1),
                 end <= workers     ? "worker"
                 : begin >= workers ? other
                                    : "both",
                 place.host, fmt::format("{}", place.pid), core_ranges(place.cores));
  }
  return text + shared_cores(processes, each);
}

}  // namespace foretrain::cli
