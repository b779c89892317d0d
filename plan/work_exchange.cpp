// Work of what prepares an exchange between replicas, and of what follows it.
#include "plan/work_of.h"

namespace foretrain::plan {

namespace {

Bytes bytes_of(const Code& code) {
  return Bytes{code.bytes()};
}

}  // namespace

void WorkOf::operator()(const Cast& x) {
  w.read = size(x.from, x.elements);
  w.written = size(x.to, x.elements);
}

// The sum with the residual, a magnitude, a product and what is left for each value. Of top_k the values are gone
// through again: for each half of their digits, and to collect those that are kept.
void WorkOf::operator()(const Encode& x) {
  const Bytes residual = size(x.code.dtype, x.code.elements);
  w.flops = 4 * static_cast<double>(x.code.elements);
  w.read = size(x.dtype, x.code.elements) + residual;
  if (x.code.kind == Coding::top_k) {
    w.read += residual + residual + residual;
  }
  w.written = bytes_of(x.code) + residual;
}

void WorkOf::operator()(const Decode& x) {
  const std::int64_t coded = x.code.kind == Coding::int8 ? x.code.elements : x.code.kept;
  w.flops = 2 * product(coded, x.parts);
  w.read = Bytes{x.parts * x.code.bytes()};
  w.written = size(x.dtype, x.code.elements);
}

void WorkOf::operator()(const OuterStep& x) {
  const Bytes weights = size(x.weights, x.elements), anchor = size(x.anchor, x.elements);
  w.flops = static_cast<double>(x.elements);
  w.read = w.written = weights;
  if (x.outer.kind != OuterKind::average) {
    const Bytes state = x.outer.kind == OuterKind::nesterov ? anchor + anchor : anchor;
    w.flops *= x.outer.kind == OuterKind::nesterov ? 8 : 4;
    w.read += state;
    w.written += state;
  }
  if (x.has_master) {
    w.written += size(x.parameter, x.elements);
  }
}

}  // namespace foretrain::plan
