// The Python module foretrain._core: documents in and out as JSON text. python/foretrain/__init__.py makes dicts of
// them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/forecast.h"
#include "cli/job.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "reports/estimate.h"

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
                     const std::string& compute_model, const std::string& network, bool fixes) {
  const py::gil_scoped_release released;
  cli::JobArguments arguments = arguments_of(job_text, is_name, overrides);
  arguments.wants_fixes = fixes;
  cli::ModelArguments models;
  models.compute_model = compute_model;
  models.network_model = network;
  const plan::Job job = arguments.load();
  const plan::PlanGraph graph = plan::build(job);
  const sim::Simulation simulation = cli::simulate(job, graph, models, nullptr);
  return reports::to_json(cli::forecast(arguments, models, job, graph, simulation)).dump();
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
}
