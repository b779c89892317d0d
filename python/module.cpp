// The Python module foretrain._core: documents in and out as JSON text. python/foretrain/__init__.py makes dicts of
// them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/forecast.h"
#include "cli/job.h"
#include "cli/search.h"
#include "cli/whole_run.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "reports/estimate.h"
#include "reports/search.h"

namespace py = pybind11;

namespace {

using namespace foretrain;

// A document, or with `is_name` a catalogue name or a file.
cli::JobArguments arguments_of(const std::string& job, bool is_name, const std::vector<std::string>& overrides) {
  cli::JobArguments arguments;
  arguments.overrides = overrides;
  if (is_name) {
    arguments.path = job;
  } else {
    arguments.path = "job";
    arguments.text = job;
  }
  return arguments;
}

std::string estimate(const std::string& job_text, bool is_name, const std::vector<std::string>& overrides,
                     const std::string& compute_model, const std::string& network, bool fixes,
                     const std::string& whole_run_text) {
  const py::gil_scoped_release released;
  cli::JobArguments arguments = arguments_of(job_text, is_name, overrides);
  arguments.wants_fixes = fixes;
  cli::ModelArguments models;
  models.compute_model = compute_model;
  models.network_model = network;
  cli::WholeRunArguments whole_run;
  const JsonDocument words = JsonDocument::from_text(whole_run_text, "whole_run");
  Mistakes mistakes;
  whole_run.read(ObjectReader(words, mistakes));
  mistakes.throw_if_any();
  const plan::Job job = arguments.load();
  const plan::PlanGraph graph = plan::build(job);
  const sim::Simulation simulation = cli::simulate(job, graph, models, nullptr);
  reports::Estimate result = cli::forecast(arguments, models, job, graph, simulation);
  if (whole_run.wanted()) {
    result.whole_run = whole_run.forecast(job, result);
  }
  return reports::to_json(result).dump();
}

// Ended by Ctrl-C it raises what Python makes of that.
std::string search_plans(const std::string& job_text, bool is_name, const std::vector<std::string>& overrides,
                         const std::vector<std::string>& free, const std::vector<std::string>& axes, double within,
                         double most_seconds, std::int64_t keep) {
  std::atomic<bool> interrupted{false};
  reports::Search found;
  {
    const py::gil_scoped_release released;
    cli::SearchWishes wishes;
    wishes.job = arguments_of(job_text, is_name, overrides);
    wishes.free = free;
    wishes.options.axes = axes;
    wishes.options.within = within;
    wishes.options.most_seconds = most_seconds;
    wishes.options.kept = static_cast<std::size_t>(keep);
    wishes.options.interrupted = &interrupted;
    wishes.options.on_progress = [&](const search::SearchProgress&) {
      const py::gil_scoped_acquire held;
      interrupted = interrupted || PyErr_CheckSignals() != 0;
    };
    found = cli::find_plans(wishes, cli::open_job(wishes));
  }
  if (interrupted) {
    throw py::error_already_set();
  }
  return reports::to_json(found).dump();
}

// The resolved job, its graph built and checked.
std::string resolve(const std::string& job_text, bool is_name, const std::vector<std::string>& overrides) {
  const py::gil_scoped_release released;
  const plan::Job job = arguments_of(job_text, is_name, overrides).load();
  const plan::PlanGraph graph = plan::build(job);
  const std::vector<std::string> violations = plan::validate(graph);
  CHECK(violations.empty(), "{}", violations.front());
  return plan::resolved(job).dump();
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  const auto base = py::register_exception<Error>(m, "Error", PyExc_RuntimeError);
  py::register_exception<InputError>(m, "InputError", py::make_tuple(base, py::handle(PyExc_ValueError)));
  py::register_exception<InfeasibleError>(m, "InfeasibleError", base);
  py::register_exception<EnvironmentError>(m, "EnvironmentError", base);
  m.def("estimate", &estimate);
  m.def("resolve", &resolve);
  m.def("search", &search_plans);
}
