// Models of samples of features: what they have that transformers have not.
#pragma once

#include <cstdint>
#include <string_view>

namespace foretrain::workloads {

// Of outputs y and targets t, the mean over samples (and outputs, but of cross_entropy):
//   squared_error: (y - t)^2          binary_cross_entropy: log(1 + exp(y)) - t y, y being the logit of t in [0, 1]
//   cross_entropy: of the softmax over the outputs; the target is a class
enum class Loss : std::uint8_t { squared_error, binary_cross_entropy, cross_entropy };
std::string_view name(Loss l);

// linear: y = W x + b. mlp: hidden layers x = act(W x + b), `layers` of them, `hidden` wide, then a linear one.
struct Dense {
  std::int64_t inputs = 0;   // features of a sample; 0: the model is a transformer
  std::int64_t outputs = 0;  // numbers told of it, or classes
  Loss loss = Loss::squared_error;
};

}  // namespace foretrain::workloads
