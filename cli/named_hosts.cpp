#include "cli/named_hosts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace foretrain::cli {

namespace {

// A name may have its domain behind it, or not.
bool is_same_host(const std::string& a, const std::string& b) {
  const std::string &longer = a.size() > b.size() ? a : b, &shorter = a.size() > b.size() ? b : a;
  return a == b || (shorter.find('.') == std::string::npos && longer.starts_with(shorter + "."));
}

// "; expected …"
std::string expected_start(const plan::Job& job) {
  const std::string words = launch_words(job);
  return fmt::format("; expected {}", words.empty() ? "to be started there" : words + " foretrain ...");
}

}  // namespace

std::string launch_words(const plan::Job& job) {
  const std::vector<std::string> hosts = job.cluster.hosts.all();
  if (hosts.size() < 2) {
    return "";
  }
  const std::int64_t ranks = job.strategy.ranks(), each = ranks / std::ssize(hosts);
  std::string list;
  for (const std::string& host : hosts) {
    list += fmt::format("{}{}:{}", list.empty() ? "" : ",", host, each);
  }
  return fmt::format("mpirun --host {} -n {} --bind-to none", list, ranks);
}

std::vector<int> in_order_of_hosts(const plan::Job& job, const exec::Processes& processes) {
  std::vector<int> order(processes.places().size());
  std::iota(order.begin(), order.end(), 0);
  const std::vector<std::string> names = job.cluster.hosts.all();
  if (names.empty()) {
    return order;
  }
  std::vector<std::size_t> host_of;  // by process
  std::vector<int> on(names.size());
  for (const exec::Place& place : processes.places()) {
    const auto host = std::find_if(names.begin(), names.end(),
                                   [&](const std::string& name) { return is_same_host(name, place.host); });
    if (host == names.end()) {
      throw InputError(
          fmt::format("{}: /cluster/hosts: a process runs on \"{}\", which has no role; the job names {}{}", job.origin,
                      place.host, fmt::join(names, ", "), expected_start(job)));
    }
    host_of.push_back(static_cast<std::size_t>(host - names.begin()));
    ++on[host_of.back()];
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (on[i] == 0) {
      throw InputError(
          fmt::format("{}: /cluster/hosts: no process runs on \"{}\"{}", job.origin, names[i], expected_start(job)));
    }
    if (on[i] != on[0]) {
      throw InputError(
          fmt::format("{}: /cluster/hosts: {} processes run on \"{}\" and {} on \"{}\"; every host has as "
                      "many as the others{}",
                      job.origin, on[0], names[0], on[i], names[i], expected_start(job)));
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return host_of[static_cast<std::size_t>(a)] < host_of[static_cast<std::size_t>(b)];
  });
  return order;
}

void take_seats(const plan::Job& job, exec::Processes& processes, Console& console) {
  processes.renumber(in_order_of_hosts(job, processes));
  if (processes.number() == 0) {
    console.unmute();
  } else {
    console.mute();
  }
}

}  // namespace foretrain::cli
