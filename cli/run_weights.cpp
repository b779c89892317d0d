#include "cli/run_weights.h"

#include <algorithm>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "exec/weights.h"
#include "workloads/hf_weights.h"

namespace foretrain::cli {

void WeightArguments::add_to(Options& options) {
  options.text("weights", "PATH", &weights_path,
               "starts from these: a safetensors file, or a folder with model.safetensors or its index");
  options.text("save", "FOLDER", &save_path, "writes the trained model as config.json and safetensors");
  options.text("dump-gradients", "FILE", &gradients_path, "writes the gradients of the last step as safetensors");
}

void WeightArguments::check(const plan::Job& job) const {
  if (!weights_path.empty() || !gradients_path.empty()) {
    workloads::hf_model_type(job.workload.model);
  }
  if (!save_path.empty()) {
    exec::check_can_save(save_path, job.workload.model);
  }
}

void WeightArguments::load(exec::Executor& executor, const plan::PlanGraph& graph, const plan::Job& job) const {
  if (!weights_path.empty()) {
    executor.set_parameters(exec::read_weights(graph, job.workload.model, workloads::Safetensors(weights_path)));
  }
}

void WeightArguments::save(exec::Executor& executor, const plan::Job& job, const exec::Text& text, bool writes) const {
  const workloads::Workload& w = job.workload;
  if (!gradients_path.empty()) {
    const std::vector<exec::FullTensor> gradients = executor.gradients();
    if (writes) {
      exec::save_gradients(gradients_path, w.model, w.precision.gradient, gradients);
    }
  }
  if (!save_path.empty()) {
    const std::vector<exec::FullTensor> parameters = executor.parameters();
    if (writes) {
      exec::save_model(save_path, w.model, std::max(w.seq_len, w.model.max_positions), w.precision.parameter,
                       parameters);
      if (text.tokenizer != nullptr) {
        const MappedFile file(text.tokenizer->name(), "tokenizer", "a tokenizer.json");
        write_file(save_path + "/tokenizer.json",
                   {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
      }
    }
  }
}

}  // namespace foretrain::cli
