#include "tests/exec/pretend_fabric.h"

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "base/error.h"
#include "exec/shares.h"

namespace foretrain::testing {

using exec::GpuStream;
using Bits = std::vector<std::byte>;

namespace {

Bits bits(const void* data, std::int64_t bytes) {
  const auto* const begin = static_cast<const std::byte*>(data);
  return {begin, begin + bytes};
}

}  // namespace

struct PretendFabric::Circle {
  struct Meeting {
    std::string what;      // the same from all
    std::vector<Bits> in;  // by member
    int arrived = 0, left = 0;
  };
  struct Channel {
    std::deque<Bits> sent;
    std::int64_t taken = 0;
  };
  int members = 0, joined = 0;
  std::map<std::int64_t, Meeting> meetings;         // by their place in the order
  std::map<std::pair<int, int>, Channel> channels;  // by sender and receiver
};

struct PretendFabric::State {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Circle>> circles;
  std::uint64_t ids = 0;
  bool is_broken = false;
};

class PretendFabric::End : public exec::Collectives {
 public:
  End(std::shared_ptr<State> state, PretendGpu& gpu, std::shared_ptr<Circle> circle, int members, int index,
      const bool& in_batch)
      : state_(std::move(state)),
        gpu_(gpu),
        circle_(std::move(circle)),
        index_(index),
        in_batch_(in_batch),
        random_(static_cast<unsigned>(index) + 1) {
    const std::lock_guard lock(state_->mutex);
    CHECK(circle_->members == 0 || circle_->members == members, "a circle of {} is joined as one of {}",
          circle_->members, members);
    circle_->members = members;
    ++circle_->joined;
  }
  ~End() override { *is_aborted_ = true; }

  void all_reduce(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    meet("all_reduce", in, n, n, dtype, stream, [=](const Circle::Meeting& m) { sum(m, 0, out, n, dtype); });
  }
  void reduce_scatter(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    const std::int64_t own = n / circle_->members, begin = index_ * own;
    meet("reduce_scatter", in, n, n, dtype, stream, [=](const Circle::Meeting& m) { sum(m, begin, out, own, dtype); });
  }
  void all_gather(const void* in, void* out, std::int64_t n, Dtype dtype, GpuStream stream) override {
    meet("all_gather", in, n / circle_->members, n, dtype, stream, [=](const Circle::Meeting& m) {
      auto* to = static_cast<std::byte*>(out);
      for (const Bits& part : m.in) {
        std::memcpy(to, part.data(), part.size());
        to += part.size();
      }
    });
  }
  void broadcast(const void* in, void* out, std::int64_t n, Dtype dtype, int root, GpuStream stream) override {
    meet("broadcast of " + std::to_string(root), in, n, n, dtype, stream, [=](const Circle::Meeting& m) {
      const Bits& whole = m.in[static_cast<std::size_t>(root)];
      std::memcpy(out, whole.data(), whole.size());
    });
  }
  void send(const void* data, std::int64_t n, Dtype dtype, int to, GpuStream stream) override {
    begin(stream, true);
    sends_.push_back({to, const_cast<void*>(data), size_bytes(dtype, n)});
  }
  void receive(void* data, std::int64_t n, Dtype dtype, int from, GpuStream stream) override {
    begin(stream, true);
    receives_.push_back({from, data, size_bytes(dtype, n)});
  }

  bool is_settled() override {
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->is_broken) {
        throw EnvironmentError("a member is gone");
      }
      if (circle_->joined < circle_->members) {
        return false;
      }
    }
    is_joined_ = true;
    if (is_open_ && random_() % 2 == 0) {
      return false;
    }
    if (is_open_) {
      collective_ ? collective_() : exchange();
      collective_ = nullptr;
      sends_.clear();
      receives_.clear();
      is_open_ = false;
    }
    return true;
  }

  void abort() override { *is_aborted_ = true; }

 private:
  struct Message {
    int peer = 0;
    void* data = nullptr;
    std::int64_t bytes = 0;
  };

  void begin(GpuStream stream, bool is_message) {
    CHECK(is_joined_ && !*is_aborted_, "an operation of a circle that is not joined, or aborted");
    CHECK(in_batch_ == is_message, "messages are in batches, and nothing else is");
    CHECK(!is_open_ || (is_message && !collective_), "an operation before the last one is settled");
    CHECK(stream_.handle == nullptr || stream_.handle == stream.handle, "a circle's operations in two streams");
    stream_ = stream;
    is_open_ = true;
  }

  // `brought` elements in, of `elements` in all.
  void meet(const std::string& kind, const void* in, std::int64_t brought, std::int64_t elements, Dtype dtype,
            GpuStream stream, std::function<void(const Circle::Meeting&)> leave) {
    begin(stream, false);
    const std::string what = kind + " " + std::to_string(elements) + " " + std::string(name(dtype));
    collective_ = [this, in, bytes = size_bytes(dtype, brought), what, leave = std::move(leave)] {
      const std::int64_t place = order_++;
      enqueue(nullptr, [=, circle = circle_, index = static_cast<std::size_t>(index_)] {
        Circle::Meeting& m = circle->meetings[place];
        CHECK(m.arrived == 0 || m.what == what, "{} where others do {}", what, m.what);
        m.what = what;
        m.in.resize(static_cast<std::size_t>(circle->members));
        m.in[index] = bits(in, bytes);
        ++m.arrived;
      });
      enqueue([=, circle = circle_] { return circle->meetings[place].arrived == circle->members; },
              [=, circle = circle_] {
                Circle::Meeting& m = circle->meetings[place];
                leave(m);
                if (++m.left == circle->members) {
                  circle->meetings.erase(place);
                }
              });
    };
  }

  void exchange() {
    for (const Message& s : sends_) {
      enqueue(nullptr, [s, c = circle_, i = index_] {
        c->channels[{i, s.peer}].sent.push_back(bits(s.data, s.bytes));
      });
    }
    for (const Message& r : receives_) {
      const auto channel = [c = circle_, ends = std::pair(r.peer, index_)]() -> Circle::Channel& {
        return c->channels[ends];
      };
      enqueue([channel] { return !channel().sent.empty(); },
              [channel, r] {
                const Bits& message = channel().sent.front();
                CHECK(std::ssize(message) == r.bytes, "{} bytes are received where {} were sent", r.bytes,
                      message.size());
                std::memcpy(r.data, message.data(), message.size());
                channel().sent.pop_front();
                ++channel().taken;
              });
    }
    for (const Message& s : sends_) {
      const std::int64_t count = ++sent_[s.peer];
      enqueue([c = circle_, ends = std::pair(index_, s.peer), count] { return c->channels[ends].taken >= count; },
              [] {});
    }
  }

  // Both under the fabric's lock; once aborted, the first is not asked and the second not done.
  void enqueue(std::function<bool()> can_run, std::function<void()> run) {
    gpu_.enqueue(
        stream_,
        [state = state_, is_aborted = is_aborted_, can_run = std::move(can_run)] {
          const std::lock_guard lock(state->mutex);
          return *is_aborted || can_run == nullptr || can_run();
        },
        [state = state_, is_aborted = is_aborted_, run = std::move(run)] {
          const std::lock_guard lock(state->mutex);
          if (!*is_aborted) {
            run();
          }
        });
  }

  static void sum(const Circle::Meeting& m, std::int64_t begin, void* out, std::int64_t n, Dtype dtype) {
    std::vector<kernels::ConstTensor> sources;
    for (const Bits& in : m.in) {
      sources.push_back({in.data() + size_bytes(dtype, begin), dtype});
    }
    exec::reduce_in_order(kernels::cpu_launchers(), plan::Reduction::sum, sources, {out, dtype}, {}, n);
  }

  std::shared_ptr<State> state_;
  PretendGpu& gpu_;
  std::shared_ptr<Circle> circle_;
  int index_;
  const bool& in_batch_;
  std::mt19937 random_;
  std::shared_ptr<std::atomic<bool>> is_aborted_ = std::make_shared<std::atomic<bool>>(false);
  bool is_joined_ = false, is_open_ = false;
  GpuStream stream_;
  std::int64_t order_ = 0;
  std::map<int, std::int64_t> sent_;  // messages so far, by receiver
  std::function<void()> collective_;  // what is to be settled: this, or messages
  std::vector<Message> sends_, receives_;
};

class PretendFabric::Library : public exec::CollectiveLibrary {
 public:
  Library(std::shared_ptr<State> state, PretendGpu& gpu) : state_(std::move(state)), gpu_(gpu) {}

  std::string name() const override { return "a pretended library"; }
  std::string new_id() override {
    const std::lock_guard lock(state_->mutex);
    std::string id = std::to_string(++state_->ids);
    id.resize(kIdBytes);
    return id;
  }
  std::unique_ptr<exec::Collectives> join(const std::string& id, int members, int index) override {
    CHECK(id.size() == kIdBytes, "an identity of {} bytes", id.size());
    std::shared_ptr<Circle> circle;
    {
      const std::lock_guard lock(state_->mutex);
      std::shared_ptr<Circle>& known = state_->circles[id];
      known = known ? known : std::make_shared<Circle>();
      circle = known;
    }
    return std::make_unique<End>(state_, gpu_, circle, members, index, in_batch_);
  }
  void begin_batch() override { in_batch_ = true; }
  void end_batch() override { in_batch_ = false; }

 private:
  std::shared_ptr<State> state_;
  PretendGpu& gpu_;
  bool in_batch_ = false;
};

PretendFabric::PretendFabric() : state_(std::make_shared<State>()) {}
PretendFabric::~PretendFabric() = default;

std::unique_ptr<exec::CollectiveLibrary> PretendFabric::library(PretendGpu& gpu) {
  return std::make_unique<Library>(state_, gpu);
}

void PretendFabric::break_down() {
  const std::lock_guard lock(state_->mutex);
  state_->is_broken = true;
}

int PretendFabric::circles() const {
  const std::lock_guard lock(state_->mutex);
  return static_cast<int>(state_->circles.size());
}

}  // namespace foretrain::testing
