// The text of the InputError that a call ends in, for golden messages.
#pragma once

#include <string>

#include "base/error.h"

namespace foretrain::test {

template <class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const InputError& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace foretrain::test
