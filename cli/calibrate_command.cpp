#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/device.h"
#include "cli/options.h"
#include "cli/together.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "exec/calibrate.h"
#include "exec/calibrate_link.h"
#include "reports/table.h"
#include "reports/text.h"
#include "topologies/this_machine.h"

namespace foretrain::cli {

namespace {

void make_folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty() && !std::filesystem::create_directories(folder, error) && error) {
    throw EnvironmentError(fmt::format("{}: the folder cannot be made: {}", folder.string(), error.message()));
  }
}

std::vector<std::pair<std::string, double>> matmul_rates(const topologies::Measured& measured) {
  std::vector<std::pair<std::string, double>> out;
  for (const auto& [dtype, rate] : topologies::best_matmul_rates(measured)) {
    out.emplace_back(name(dtype), rate.value);
  }
  return out;
}

std::size_t samples(const topologies::Measured& m) {
  return m.matmul.size() + m.attention.size() + m.memory.size() + m.collectives.size() + m.exchanges.size() +
         m.sharing.size() + m.overlap.size();
}

std::string text(const topologies::Measured& m, const std::string& path, bool is_gpu, bool colour) {
  reports::Table t;
  t.columns = {{""}, {""}};
  t.rows = {{"machine", m.machine},
            {"date", m.date},
            {"samples", reports::count(static_cast<std::int64_t>(samples(m)))},
            {"op dispatch", reports::seconds_text(m.dispatch_seconds)}};
  for (const auto& [dtype, rate] : matmul_rates(m)) {
    t.rows.push_back(
        {fmt::format("best {} matmul", dtype), to_string(FlopRate{rate}) + (is_gpu ? "" : " on one core")});
  }
  if (is_gpu) {
    t.rows.push_back({"op submission",
                      fmt::format("{}, {} more for each other stream it waits for",
                                  reports::seconds_text(m.submit_seconds), reports::seconds_text(m.event_seconds))});
    for (const topologies::OverlapSample& o : m.overlap) {
      t.rows.push_back({fmt::format("{} beside communication", o.kind),
                        fmt::format("takes {:.2f} times as long, and that {:.2f} times", o.compute, o.communication)});
    }
  }
  t.rows.push_back({"profile", {path, reports::Tone::strong}});
  return reports::to_text(t, colour);
}

nlohmann::ordered_json document(const topologies::Measured& m, const std::string& path) {
  nlohmann::ordered_json rates = nlohmann::ordered_json::object();
  for (const auto& [dtype, rate] : matmul_rates(m)) {
    rates[dtype] = reports::number(rate);
  }
  return {{"schema", "foretrain.calibrate/1"},
          {"profile", path},
          {"machine", m.machine},
          {"date", m.date},
          {"commit", m.commit},
          {"samples", samples(m)},
          {"dispatch_s", reports::number(m.dispatch_seconds)},
          {"submit_s", reports::number(m.submit_seconds)},
          {"best_matmul_flops_per_s", std::move(rates)}};
}

// Started on several hosts at once: the link between them.
int calibrate_link(exec::Processes& processes, bool json, Console& console) {
  exec::LinkFigures link;
  return together(
      processes, console, [] { return std::string(); },
      [&] {
        link = exec::measure_link(processes);
        const nlohmann::ordered_json inter{{"bandwidth", fmt::format("{:.4g} Gb/s", link.bandwidth.value * 8e-9)},
                                           {"latency", fmt::format("{:.4g} us", seconds(link.latency) * 1e6)}};
        console.result(json ? nlohmann::ordered_json{{"schema", "foretrain.link/1"},
                                                     {"hosts", link.hosts},
                                                     {"bandwidth_bytes_per_s", link.bandwidth.value},
                                                     {"latency_s", seconds(link.latency)},
                                                     {"inter", inter}}
                                      .dump(2) +
                                  "\n"
                            : fmt::format("between {} hosts, for the cluster of a job:\n\"nodes\": {}, \"inter\": {}\n",
                                          link.hosts, link.hosts, inter.dump()));
        return kOk;
      });
}

// Into `path`, by process 0.
int calibrate_profile(exec::CalibrateOptions calibration, const std::string& path, bool json, Console& console) {
  const bool is_gpu = calibration.gpu != nullptr;
  Progress progress(console, "calibrating");
  calibration.on_progress = [&](double fraction, const std::string& what) { progress.update(fraction, what); };
  const topologies::Profile profile = exec::calibrate(calibration);
  if (calibration.processes != nullptr && calibration.processes->number() > 0) {
    return kOk;
  }
  topologies::save_profile(profile, path);
  console.result(json ? document(profile.measured, path).dump(2) + "\n"
                      : text(profile.measured, path, is_gpu, console.colour()));
  return kOk;
}

}  // namespace

int calibrate_command(const std::vector<std::string>& arguments, Console& console) {
  std::string path;
  DeviceArguments device;
  bool json = false;
  Options options(
      "calibrate",
      "measures this machine, or a GPU of it, in about a minute; forecasts of jobs on 'this-machine' use the "
      "result. Started by mpirun on several hosts: measures the link between them; with a GPU for each "
      "process: also what the GPUs exchange");
  options.text("out", "FILE", &path, "where the profile goes [the place that forecasts look at]", 'o');
  device.add_to(options);
  options.flag("json", &json, "one document, foretrain.calibrate/1");
  options.examples(
      {"foretrain calibrate", "foretrain calibrate -o quiet-machine.json", "foretrain calibrate --device cuda"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  const auto processes = exec::join_processes();
  if (processes->count() > 1 && !device.is_gpu()) {
    if (!path.empty()) {
      throw InputError("--out is for the profile of one machine; the link between hosts is printed");
    }
    return calibrate_link(*processes, json, console);
  }
  std::unique_ptr<exec::Gpu> gpu;
  const auto prepare = [&] {
    gpu = device.open(*processes);
    if (path.empty()) {
      path = gpu ? topologies::this_gpu_profile_path() : topologies::this_machine_profile_path();
      make_folder_of(path);
    }
    static_cast<void>(
        OutputFile(path));  // so that a path that cannot be written is known now and not in a minute; leaves nothing
    return std::string();
  };
  exec::CalibrateOptions calibration;
  calibration.name = device.is_gpu() ? "this-gpu" : "this-machine";
  calibration.commit = kCommit;
  calibration.command = fmt::format("foretrain calibrate{}{}", arguments.empty() ? "" : " ", fmt::join(arguments, " "));
  return together(*processes, console, prepare, [&] {
    calibration.gpu = gpu.get();
    calibration.processes = gpu ? processes.get() : nullptr;
    return calibrate_profile(calibration, path, json, console);
  });
}

}  // namespace foretrain::cli
