#include "exec/mpi_module.h"

#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"

namespace foretrain::exec {

namespace {

void check(int status, const char* what) {
  if (status != MPI_SUCCESS) {
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(status, text, &length);
    throw EnvironmentError(fmt::format("MPI: {}: {}", what, std::string(text, static_cast<std::size_t>(length))));
  }
}

// Whether all threads of a process wait for something: then it has taken whatever was sent to it. Of one that is gone,
// or not to be seen, too.
bool waits(pid_t pid) {
  std::error_code error;
  std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), error);
  for (; !error && task != std::filesystem::directory_iterator(); task.increment(error)) {
    std::string line;
    std::ifstream stat(task->path() / "stat");
    std::getline(stat, line);
    const std::size_t name_end = line.rfind(')');
    if (name_end != std::string::npos && line.substr(name_end).compare(0, 3, ") S") != 0) {
      return false;
    }
  }
  return true;
}

// MPI_Finalize of Open MPI tells the launcher that this process ends well, and returns after two seconds though it be
// unheard. A launcher that had no core for so long would first see that the process is gone, and call the run failed.
void finalize() {
  constexpr std::chrono::seconds kUnheard{2}, kPatience{60};
  constexpr std::chrono::milliseconds kLook{10};
  const auto begin = std::chrono::steady_clock::now();
  MPI_Finalize();
  if (std::chrono::steady_clock::now() - begin < kUnheard) {
    return;
  }
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!waits(::getppid()) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kLook);
  }
}

// One call at a time: Open MPI's own locking under MPI_THREAD_MULTIPLE is dearer, and some of its transports refuse it.
class MpiTransport : public Transport {
 public:
  MpiTransport() {
    // Above this size Open MPI first asks the receiver, and over TCP the answer waits behind what the receiver is
    // sending: both ways at once a link then carries little more than half. Pieces (exec/host_exchange.cpp) go at once.
    ::setenv("OMPI_MCA_btl_tcp_eager_limit", "300000", 0);
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw EnvironmentError("MPI: this library cannot be called from several threads in turn (MPI_THREAD_SERIALIZED)");
    }
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &process_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &processes_), "MPI_Comm_size");
  }
  ~MpiTransport() override {
    MPI_Comm_free(&comm_);
    finalize();
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int process() const override { return process_; }
  int processes() const override { return processes_; }
  std::string description() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string version(text, static_cast<std::size_t>(length));
    return version.substr(0, version.find(','));
  }

  Request send(int to, int tag, const void* data, std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto request = std::make_unique<MPI_Request>();
    check(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, comm_, request.get()), "MPI_Isend");
    return request.release();
  }
  Request receive(int from, int tag, void* data, std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto request = std::make_unique<MPI_Request>();
    check(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, comm_, request.get()), "MPI_Irecv");
    return request.release();
  }
  bool done(Request request) override {
    const std::lock_guard lock(mutex_);
    int flag = 0;
    check(MPI_Test(static_cast<MPI_Request*>(request), &flag, MPI_STATUS_IGNORE), "MPI_Test");
    if (flag != 0) {
      const std::unique_ptr<MPI_Request> finished(static_cast<MPI_Request*>(request));
    }
    return flag != 0;
  }
  std::optional<Arrival> probe(int tag) override {
    const std::lock_guard lock(mutex_);
    int flag = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm_, &flag, &status), "MPI_Iprobe");
    if (flag == 0) {
      return std::nullopt;
    }
    int bytes = 0;
    check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
    return Arrival{status.MPI_SOURCE, static_cast<std::size_t>(bytes)};
  }
  int most_tag() const override {
    int* most = nullptr;
    int found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, static_cast<void*>(&most), &found);
    constexpr int kPromised = 32767;  // by the standard
    return found != 0 ? *most : kPromised;
  }
  // Open MPI's launcher ends the others itself, unless with --enable-recovery. MPI_Finalize waits for all.
  std::vector<int> lost() override { return {}; }
  bool parts_with_the_rest() const override { return false; }

 private:
  std::mutex mutex_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int process_ = 0, processes_ = 1;
};

}  // namespace

}  // namespace foretrain::exec

extern "C" foretrain::exec::Transport* foretrain_open_mpi_transport() {
  return std::make_unique<foretrain::exec::MpiTransport>().release();
}
