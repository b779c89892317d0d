#include "exec/nccl.h"

#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

#include "base/error.h"

namespace foretrain::exec {

namespace {

constexpr const char* kLibrary = "libnccl.so.2";

// NCCL's functions by their own names.
struct Functions {
  decltype(&::ncclGetVersion) ncclGetVersion;
  decltype(&::ncclGetUniqueId) ncclGetUniqueId;
  decltype(&::ncclCommInitRankConfig) ncclCommInitRankConfig;
  decltype(&::ncclCommGetAsyncError) ncclCommGetAsyncError;
  decltype(&::ncclCommAbort) ncclCommAbort;
  decltype(&::ncclGetErrorString) ncclGetErrorString;
  decltype(&::ncclGetLastError) ncclGetLastError;
  decltype(&::ncclAllReduce) ncclAllReduce;
  decltype(&::ncclReduceScatter) ncclReduceScatter;
  decltype(&::ncclAllGather) ncclAllGather;
  decltype(&::ncclBroadcast) ncclBroadcast;
  decltype(&::ncclSend) ncclSend;
  decltype(&::ncclRecv) ncclRecv;
  decltype(&::ncclGroupStart) ncclGroupStart;
  decltype(&::ncclGroupEnd) ncclGroupEnd;

  // Stays open: NCCL has threads of its own.
  Functions() {
    void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    const auto load = [&](auto& function, const char* name) {
      function =
          library == nullptr ? nullptr : reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr) {
        throw EnvironmentError(fmt::format("NCCL: {}; install NCCL 2.18 or later (libnccl2)", ::dlerror()));
      }
    };
    load(ncclGetVersion, "ncclGetVersion");
    load(ncclGetUniqueId, "ncclGetUniqueId");
    load(ncclCommInitRankConfig, "ncclCommInitRankConfig");
    load(ncclCommGetAsyncError, "ncclCommGetAsyncError");
    load(ncclCommAbort, "ncclCommAbort");
    load(ncclGetErrorString, "ncclGetErrorString");
    load(ncclGetLastError, "ncclGetLastError");
    load(ncclAllReduce, "ncclAllReduce");
    load(ncclReduceScatter, "ncclReduceScatter");
    load(ncclAllGather, "ncclAllGather");
    load(ncclBroadcast, "ncclBroadcast");
    load(ncclSend, "ncclSend");
    load(ncclRecv, "ncclRecv");
    load(ncclGroupStart, "ncclGroupStart");
    load(ncclGroupEnd, "ncclGroupEnd");
  }

  // Without blocking, a call may be under way when it returns: is_settled() knows the end of it.
  void check(ncclResult_t result, ncclComm_t communicator = nullptr) const {
    if (result != ncclSuccess && result != ncclInProgress) {
      throw EnvironmentError(fmt::format("NCCL: {}: {}", ncclGetErrorString(result), ncclGetLastError(communicator)));
    }
  }
};

ncclDataType_t type(Dtype dtype) {
  switch (dtype) {
    case Dtype::fp64: return ncclFloat64;
    case Dtype::fp32:
    case Dtype::tf32: return ncclFloat32;
    case Dtype::fp16: return ncclFloat16;
    case Dtype::bf16: return ncclBfloat16;
    case Dtype::i32: return ncclInt32;
    case Dtype::i64: return ncclInt64;
    case Dtype::u8: return ncclUint8;
    default: break;
  }
  CHECK(false, "NCCL has no {}", name(dtype));
}

std::size_t count(std::int64_t elements) {
  return static_cast<std::size_t>(elements);
}

class Communicator : public Collectives {
 public:
  Communicator(const Functions& nccl, void* (*native)(GpuStream), const ncclUniqueId& id, int members, int index)
      : nccl_(nccl), native_(native), members_(members) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    nccl_.check(nccl_.ncclCommInitRankConfig(&communicator_, members, id, index, &config));
  }
  // All members have ended their work, or somebody has failed: nothing is left to be flushed.
  ~Communicator() override { abort(); }

  void all_reduce(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    check(nccl_.ncclAllReduce(in, out, count(n), type(dtype), ncclSum, communicator_, cuda(stream)));
  }
  void reduce_scatter(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    check(nccl_.ncclReduceScatter(in, out, count(n / members_), type(dtype), ncclSum, communicator_, cuda(stream)));
  }
  void all_gather(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    check(nccl_.ncclAllGather(in, out, count(n / members_), type(dtype), communicator_, cuda(stream)));
  }
  void broadcast(const void* in, void* out, std::int64_t n, Dtype dtype, int root, GpuStream stream) override {
    check(nccl_.ncclBroadcast(in, out, count(n), type(dtype), root, communicator_, cuda(stream)));
  }
  void send(const void* data, std::int64_t n, Dtype dtype, int to, GpuStream stream) override {
    check(nccl_.ncclSend(data, count(n), type(dtype), to, communicator_, cuda(stream)));
  }
  void receive(void* data, std::int64_t n, Dtype dtype, int from, GpuStream stream) override {
    check(nccl_.ncclRecv(data, count(n), type(dtype), from, communicator_, cuda(stream)));
  }

  bool is_settled() override {
    ncclResult_t state = ncclSuccess;
    check(nccl_.ncclCommGetAsyncError(communicator_, &state));
    check(state);
    return state == ncclSuccess;
  }
  void abort() override {
    if (communicator_ != nullptr) {
      nccl_.ncclCommAbort(communicator_);
      communicator_ = nullptr;
    }
  }

 private:
  void check(ncclResult_t result) const { nccl_.check(result, communicator_); }
  cudaStream_t cuda(GpuStream stream) const { return static_cast<cudaStream_t>(native_(stream)); }

  const Functions& nccl_;
  void* (*native_)(GpuStream);
  int members_;
  ncclComm_t communicator_ = nullptr;
};

class Nccl : public CollectiveLibrary {
 public:
  explicit Nccl(void* (*native)(GpuStream)) : native_(native) {}

  std::string name() const override {
    int version = 0;  // 22809: 2.28.9
    nccl_.check(nccl_.ncclGetVersion(&version));
    return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }
  std::string new_id() override {
    ncclUniqueId id;
    nccl_.check(nccl_.ncclGetUniqueId(&id));
    return {id.internal, sizeof id.internal};
  }
  std::unique_ptr<Collectives> join(const std::string& id, int members, int index) override {
    CHECK(id.size() == kIdBytes, "an identity of {} bytes", id.size());
    ncclUniqueId unique;
    std::memcpy(unique.internal, id.data(), id.size());
    return std::make_unique<Communicator>(nccl_, native_, unique, members, index);
  }
  void begin_batch() override { nccl_.check(nccl_.ncclGroupStart()); }
  void end_batch() override { nccl_.check(nccl_.ncclGroupEnd()); }

 private:
  static_assert(kIdBytes == NCCL_UNIQUE_ID_BYTES);
  Functions nccl_;
  void* (*native_)(GpuStream);
};

}  // namespace

std::unique_ptr<CollectiveLibrary> open_nccl(void* (*native)(GpuStream)) {
  return std::make_unique<Nccl>(native);
}

}  // namespace foretrain::exec
