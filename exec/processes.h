// The processes of one run: where each of them lives, and how they agree outside the steps of training. Every process
// executes the same calls in the same order (SPMD); process 0 alone speaks to people.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exec/place.h"
#include "exec/transport.h"
#include "plan/mesh.h"

namespace foretrain::exec {

inline constexpr std::chrono::seconds kPatience{60};

class Processes {
 public:
  // Just this one.
  Processes();
  // Those that a launcher has started together; takes part in their first agreement. `launcher` is for people. With
  // `processes_per_host` so many in a row count as a host of their own, to try on one host what goes on between
  // several. `patience`: how long one that is stopped is waited for: others may be busy for as long as they like.
  Processes(std::unique_ptr<Transport> transport, std::string launcher, int processes_per_host = 0,
            std::chrono::milliseconds patience = kPatience);
  // After a failure leaves without the others.
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  int number() const { return number_; }
  int count() const { return static_cast<int>(places_.size()); }
  const std::vector<Place>& places() const { return places_; }  // by process
  // Processes are named by their ranks: `each` in a row live in each.
  void set_ranks_each(plan::Rank each) { ranks_each_ = each; }
  bool same_host(int a, int b) const { return place(a).host_key == place(b).host_key; }
  // By process: its host's number, in the order of their first processes.
  std::vector<int> hosts() const;
  // Process `order[i]` is number i from now on; all call it with the same permutation, before they hold ranks.
  void renumber(const std::vector<int>& order);
  const std::string& launcher() const { return launcher_; }
  // What carries their messages: "Open MPI v4.1.4".
  std::string library() const { return transport_ ? transport_->description() : "no library"; }
  Transport& transport() { return *transport_; }  // REQUIRES: count() > 1

  // The run goes on without these when they are lost: check() says nothing then, what they give is "", and one that is
  // stopped for too long is killed, so that it cannot come back. All live on this host; the same in all processes.
  void let_go(std::vector<int> processes);

  // What each process gave, by process; all call it in the same order, from the main thread. Throws EnvironmentError
  // when a process is lost.
  std::vector<std::string> all_gather(const std::string& mine);
  // The same for process 0; the others get nothing.
  std::vector<std::string> gather(const std::string& mine);

  // Notes outside that order, kept in the order of one sender. hear() is for the main thread.
  void tell(int to, const std::string& note);
  std::optional<std::pair<int, std::string>> hear();

  // Numbers for messages of the parties that exchange more (exec/parcels.h). Channels count alike in all processes that
  // make the same calls, from the main thread; tags are this sender's own, from any thread.
  int next_channel() { return kFirstChannel + next_channel_++ % (kFirstTag - kFirstChannel); }
  int next_tag() { return kFirstTag + static_cast<int>(next_tag_++ % static_cast<unsigned>(most_tag_ - kFirstTag)); }

  // Of a run of steps; counts as channels do.
  int next_run() { return next_run_++; }

  // Says to all others, once, why this process cannot go on.
  void fail(const std::string& why);
  // Throws EnvironmentError when another process has failed, with its words, is gone, or is stopped for too long. For
  // the main thread, wherever it waits.
  void check();
  bool has_failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }  // the words of whoever failed first; "" while all is well
  // Of those known to be gone.
  const std::vector<int>& lost() const { return lost_; }
  bool is_lost(int process) const;
  // After a failure: that this process has reported it, to all that are left; and whether that one has. Looks who is
  // gone meanwhile.
  void say_reported();
  bool has_reported(int process);
  // After a failure, from each to all that are left: its last words, which may change.
  void say_last(const std::string& words);
  // By process; "" of one that has said none. Looks who is gone meanwhile.
  const std::vector<std::string>& last_words();
  // Neither known to be gone nor, on this host, stopped.
  bool is_left(int process) const;
  // "rank 3 (pid 4711 on node7)" and, on this host, what became of it: "is stopped", "is gone".
  std::string describe(int process) const;
  // The same of one that is lost: "is gone", whatever this host knows.
  std::string describe_lost(int process) const;
  // "; rank 3 (pid 4711 on node7) is stopped": those of this host of which it knows no good. "" for none.
  std::string ailing() const;

 private:
  static constexpr int kFirstChannel = 16, kFirstTag = 1024;
  struct Outgoing {
    int to = 0;
    std::string bytes;
    Transport::Request request = nullptr;
  };
  const Place& place(int process) const { return places_[static_cast<std::size_t>(process)]; }
  void send(int to, int tag, const std::string& bytes);
  void finish_sent(bool wait);
  // "" when the other one is lost.
  std::string receive(int from, int tag, std::size_t bytes);
  // False when the other one is lost: memory of the request must stay.
  bool wait(Transport::Request request, int other);
  std::string receive_long(int from);
  void send_long(int to, const std::string& bytes);
  void listen();
  // To all that are not lost; returns when it has left, or a farewell has taken too long.
  void say_before_the_end(const std::string& note);
  void open_watches();
  void agree_on_clock();
  int stopped() const;  // one of this host; -1: none is
  bool kill(int process) const;
  std::vector<int> gone();

  std::unique_ptr<Transport> transport_;
  std::string launcher_;
  int number_ = 0;
  plan::Rank ranks_each_ = 1;
  std::chrono::milliseconds patience_ = kPatience;
  std::vector<Place> places_;
  std::vector<int> watches_;  // by process: a pidfd of another one on this host, else -1
  std::list<Outgoing> sent_;
  std::list<std::pair<int, std::string>> heard_;
  std::string failure_;
  std::vector<std::string> last_words_;  // by process
  std::vector<int> reported_;            // processes
  bool told_ = false;
  int next_channel_ = 0, next_run_ = 0, most_tag_ = 0;
  std::atomic<unsigned> next_tag_{0};
  std::vector<int> expendable_, lost_;
  std::chrono::steady_clock::time_point next_look_;  // at who is stopped
  // By looks, not by the clock: time in which this process was stopped as well does not count.
  std::chrono::milliseconds stopped_for_{0};
};

// The processes that the launcher of this one started with it: mpirun, srun with MPI. Just this one where no launcher
// is seen. Throws EnvironmentError when one is seen and cannot be used; over TCP, when they have not all come within
// `patience`. MPI's own start knows no limit.
std::unique_ptr<Processes> join_processes(std::chrono::milliseconds patience = kPatience);
// Whether join_processes() sees one.
bool has_launcher();

}  // namespace foretrain::exec
