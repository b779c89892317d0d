// A collective algorithm as data: rounds of transfers between ranks laid on nodes, and what they take on an idle
// fabric. What is sent in a round was held when the round began; the next round begins when the last transfer has
// arrived. The buffer is cut into equal chunks; a transfer names chunks, so that a test can follow which rank holds
// which sums.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "plan/ops.h"

namespace foretrain::sim::collective {

// plan::CollectiveKind and those that only libraries and servers have. The root of a rooted kind is rank 0.
enum class Kind : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  all_to_all,
  reduce,
  gather,
  scatter
};
std::string_view name(Kind kind);
Kind from_plan(plan::CollectiveKind kind);
// Throws InputError with the nearest word.
Kind kind_from_name(const std::string& word);

// Where ranks sit: ranks of a node are neighbours, node by node in ascending order.
class Layout {
 public:
  // Ranks on each node, all >= 1.
  explicit Layout(std::vector<int> ranks_on_node);
  // `ranks` on as few nodes of `per_node` as hold them; the last may hold fewer.
  static Layout packed(int ranks, int per_node);

  int ranks() const { return static_cast<int>(node_of_.size()); }
  int nodes() const { return static_cast<int>(first_.size()) - 1; }
  int node(int rank) const { return node_of_[static_cast<std::size_t>(rank)]; }
  int first(int node) const { return first_[static_cast<std::size_t>(node)]; }
  int on_node(int node) const { return first(node + 1) - first(node); }
  int most_on_node() const { return most_; }
  bool even() const { return even_; }  // every node holds as many
  // The id of a node's switch where it takes part (in-switch reduction): behind the ranks.
  int switch_of(int node) const { return ranks() + node; }
  int endpoint_node(int endpoint) const { return endpoint < ranks() ? node(endpoint) : endpoint - ranks(); }

 private:
  std::vector<int> node_of_, first_;
  int most_ = 0;
  bool even_ = true;
};

// Full bisection: a rank's port to its node and its port to the fabric are all that limits it. Bytes/s per direction,
// seconds; both rates carry the same efficiency.
struct Fabric {
  double node_rate = 1, fabric_rate = 1;
  double node_latency = 0, fabric_latency = 0;
  double efficiency = 1;
  double node_seconds(double bytes) const { return node_latency + bytes / (node_rate * efficiency); }
  double fabric_seconds(double bytes) const { return fabric_latency + bytes / (fabric_rate * efficiency); }
};

// Chunks (first + i stride) mod Shape::chunks, i < count. `reduce`: added to what the receiver holds, else they replace
// it.
struct Transfer {
  int from = 0, to = 0;
  std::int64_t first = 0, count = 1, stride = 1;
  bool reduce = false;
};

struct Request {
  Kind kind = Kind::all_reduce;
  const Layout* layout = nullptr;
  int pieces = 1;  // that pipelined algorithms cut the buffer into (Shape says into how many chunks all in all)
};

// `buffers` x bytes are cut into `chunks`: n of them for all_to_all, where every rank has a buffer of its own, else 1.
// Chunk ids. all_reduce, broadcast, reduce: any cut. reduce_scatter, all_gather, gather, scatter: rank r's block is
// chunks [r, r+1) chunks/ranks. all_to_all: block of source s for destination d is chunk s ranks + d.
struct Shape {
  int steps = 0;
  std::int64_t chunks = 1;
  int buffers = 1;
};

class Algorithm {
 public:
  virtual ~Algorithm() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view card() const = 0;
  virtual std::vector<Kind> kinds() const = 0;
  // Why it cannot run there, "" when it can. The kind is one of kinds() and the layout has at least two ranks.
  virtual std::string refusal(Kind kind, const Layout& layout) const = 0;
  // Requires of all below: refusal() was "".
  virtual Shape shape(const Request& request) const = 0;
  virtual void step(const Request& request, int index, std::vector<Transfer>& out) const = 0;
  // The first round with as many transfers of as many chunks between the same two as this one, which then takes as
  // long; or any such one before it. What is sent may be another chunk.
  virtual int same_round(const Request& request, int index) const;
  // Closed form: seconds on an idle fabric.
  virtual double seconds(const Request& request, double bytes, const Fabric& fabric) const = 0;
};

// All, in the order that they are shown in.
const std::vector<std::unique_ptr<Algorithm>>& algorithms();
// nullptr for an unknown name.
const Algorithm* find_algorithm(std::string_view name);
bool applies(const Algorithm& algorithm, Kind kind, const Layout& layout);
// "" or the reason, also for a kind that the algorithm does not know and for one rank.
std::string refusal(const Algorithm& algorithm, Kind kind, const Layout& layout);

double chunk_bytes(const Shape& shape, double bytes);
// Of one round: every transfer pays its latency, ports are shared; the slowest counts.
double step_seconds(const Layout& layout, const std::vector<Transfer>& transfers, double chunk, const Fabric& fabric);
// The sum over all rounds: what the closed form must equal.
double steps_seconds(const Algorithm& algorithm, const Request& request, double bytes, const Fabric& fabric);

// Which of a round's hops exist: inside nodes, between them.
struct Reach {
  bool node = false, fabric = false;
  void add(const Layout& layout, int a, int b) { (layout.node(a) == layout.node(b) ? node : fabric) = true; }
  // Of a round whose busiest port carries `bytes`, alike inside nodes and between them.
  double seconds(double bytes, const Fabric& f) const {
    const double inside = node ? f.node_seconds(bytes) : 0, outside = fabric ? f.fabric_seconds(bytes) : 0;
    return inside > outside ? inside : outside;
  }
};

// One file each.
std::unique_ptr<Algorithm> make_ring();
std::unique_ptr<Algorithm> make_double_tree();
std::unique_ptr<Algorithm> make_halving_doubling();
std::unique_ptr<Algorithm> make_hierarchical();
std::unique_ptr<Algorithm> make_bruck();
std::unique_ptr<Algorithm> make_in_switch();
std::unique_ptr<Algorithm> make_in_switch_tree();
std::unique_ptr<Algorithm> make_direct();
std::unique_ptr<Algorithm> make_pairwise();
std::unique_ptr<Algorithm> make_hierarchical_all_to_all();
std::unique_ptr<Algorithm> make_chain();
std::unique_ptr<Algorithm> make_binomial();
std::unique_ptr<Algorithm> make_server();

}  // namespace foretrain::sim::collective
