// Messages between the processes of one run, as a message library carries them.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace foretrain::exec {

// Every process of the run has one. Thread-safe. Messages of one sender and one tag arrive in the order they were sent.
// A failing library ends the run: EnvironmentError.
class Transport {
 public:
  virtual ~Transport() = default;  // leaves the run; REQUIRES: no message is under way

  virtual int process() const = 0;
  virtual int processes() const = 0;
  virtual std::string description() const = 0;  // library and version

  // Bytes must stay where they are until done() has said true, which ends the request. At most 2^30 bytes; tags from 0
  // to most_tag().
  using Request = void*;
  virtual Request send(int to, int tag, const void* data, std::size_t bytes) = 0;
  virtual Request receive(int from, int tag, void* data, std::size_t bytes) = 0;
  virtual bool done(Request request) = 0;

  struct Arrival {
    int from = 0;
    std::size_t bytes = 0;
  };
  // A message with this tag that nobody receives yet, from anyone.
  virtual std::optional<Arrival> probe(int tag) = 0;

  virtual int most_tag() const = 0;

  // Processes that are known to be gone before their time.
  virtual std::vector<int> lost() = 0;
  // Whether this value can be destroyed when some are.
  virtual bool parts_with_the_rest() const = 0;
};

// Open MPI, with the processes that its launcher started. nullptr, and why, where it was absent when this program was
// built or is absent now. Once per process.
std::unique_ptr<Transport> open_mpi(std::string* why);
// Whether that could be done, as far as can be told without starting MPI; else why not.
bool can_open_mpi(std::string* why);

}  // namespace foretrain::exec
