// Chakra traces: bytes as protobuf has them, and one step of a plan.
#include "plan/foreign/chakra.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "base/catalogue.h"
#include "base/error.h"
#include "plan/build.h"

namespace foretrain::plan {
namespace {

std::vector<ChakraNode> nodes_of(const std::string& bytes) {
  std::vector<ChakraNode> out;
  read_chakra(bytes, "t.et", [&](const ChakraNode& n) { out.push_back(n); });
  return out;
}

// id 300 = 0xAC 0x02; name "m"; type 4; packed data_deps {1, 2}; attributes is_cpu_op (bool_val, field 27), num_ops
// (int64_val, 9), tensor_size (uint64_val, 13): keys 27 << 3 = 216 = 0xD8 0x01, 9 << 3 = 0x48, 13 << 3 = 0x68.
TEST(Chakra, BytesOfANode) {
  ChakraNode n;
  n.id = 300;
  n.name = "m";
  n.type = ChakraType::compute;
  n.data_deps = {1, 2};
  n.num_ops = 5;
  n.tensor_size = 6;
  const std::string message = std::string("\x08\xAC\x02\x12\x01m\x18\x04\x2A\x02\x01\x02", 12) +
                              std::string("\x52\x0E\x0A\x09is_cpu_op\xD8\x01\x00", 16) +
                              std::string("\x52\x0B\x0A\x07num_ops\x48\x05", 13) +
                              std::string("\x52\x0F\x0A\x0Btensor_size\x68\x06", 17);
  EXPECT_EQ(encode(n), std::string(1, static_cast<char>(message.size())) + message);
}

TEST(Chakra, IsReadBack) {
  ChakraNode n;
  n.id = 7;
  n.name = "all_reduce";
  n.type = ChakraType::collective;
  n.data_deps = {3, 400};
  n.comm_type = static_cast<std::int64_t>(ChakraCollective::all_reduce);
  n.comm_size = 1LL << 40;
  n.group = "12";
  const std::vector<ChakraNode> all = nodes_of(chakra_header() + encode(n));
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].id, 7U);
  EXPECT_EQ(all[0].name, "all_reduce");
  EXPECT_EQ(all[0].data_deps, (std::vector<std::uint64_t>{3, 400}));
  EXPECT_EQ(all[0].comm_size, 1LL << 40);
  EXPECT_EQ(all[0].group, "12");
}

TEST(Chakra, RefusesWhatIsNoTrace) {
  ChakraNode n;
  n.name = "x";
  n.type = ChakraType::compute;
  const std::string whole = chakra_header() + encode(n);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    if (size != chakra_header().size()) {
      EXPECT_THROW(nodes_of(whole.substr(0, size)), InputError) << size;
    }
  }
  const std::string header = chakra_header();
  EXPECT_THROW(nodes_of(header + "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), InputError);  // a length of 2^63
  EXPECT_THROW(nodes_of(header + std::string(11, '\xFF')), InputError);                 // a number that never ends
  EXPECT_THROW(nodes_of(header + std::string("\x02\x18\x63", 3)), InputError);          // type 99
  EXPECT_THROW(nodes_of(header + std::string("\x01\x0B", 2)), InputError);              // wire type 3
}

// Every rank's trace: ids in order, each waits for earlier ones only; what is sent is received under the same tag, and
// the members of a group meet equally often.
TEST(Chakra, OneStepOfAPlan) {
  const Job job = load_job(catalogue_path("workloads/jobs", "job", "three-dimensional"), {});
  const PlanGraph graph = build(job);
  std::map<std::tuple<int, int, int, std::int64_t>, int> messages;  // source, destination, tag, bytes
  std::map<std::string, std::vector<int>> meetings;                 // by group: of each rank
  std::map<std::string, std::string> files;
  const auto duration = [](const OpId& op) { return Time{op.role == 0 && op.position == 0 ? 1'700'001 : 0}; };
  export_chakra(job, graph, duration, [&](const ExportedFile& f) { files[f.name] = f.text; });
  const ChakraNode first = nodes_of(files.at("job.0.et")).front();
  EXPECT_EQ(first.duration_ps, 1'700'001);
  EXPECT_EQ(first.duration_us, 2U);
  double flops = 0;
  for (Rank r = 0; r < graph.mesh.ranks(); ++r) {
    std::map<std::string, int> own;
    std::uint64_t next = 0;
    for (const ChakraNode& n : nodes_of(files.at("job." + std::to_string(r) + ".et"))) {
      EXPECT_EQ(n.id, next++);
      for (const std::uint64_t d : n.data_deps) {
        EXPECT_LT(d, n.id);
      }
      flops += static_cast<double>(n.num_ops);
      if (n.type == ChakraType::send || n.type == ChakraType::recv) {
        messages[{n.comm_src, n.comm_dst, n.comm_tag, n.comm_size}] += n.type == ChakraType::send ? 1 : -1;
        EXPECT_EQ(n.type == ChakraType::send ? n.comm_src : n.comm_dst, r);
      }
      if (n.type == ChakraType::collective) {
        ++own[n.group];
      }
    }
    for (const auto& [group, count] : own) {
      meetings[group].push_back(count);
    }
  }
  EXPECT_GT(flops, 0);
  EXPECT_FALSE(messages.empty());
  for (const auto& [key, balance] : messages) {
    EXPECT_EQ(balance, 0);
  }
  const auto groups = nlohmann::json::parse(files.at("comm_group.json"));
  EXPECT_EQ(groups.size(), meetings.size());
  for (const auto& [group, counts] : meetings) {
    EXPECT_EQ(counts.size(), groups.at(group).size());
    EXPECT_EQ(std::set<int>(counts.begin(), counts.end()).size(), 1U) << group;
  }
  EXPECT_EQ(nlohmann::json::parse(files.at("system.json")).at("roofline-enabled"), 0);
  EXPECT_NE(files.at("network.yml").find("npus_count: [ 8 ]"), std::string::npos);
}

TEST(Chakra, RefusesWhoComesFirst) {
  const Job job = load_job(catalogue_path("workloads/jobs", "job", "asynchronous-servers"), {});
  EXPECT_THROW(export_chakra(
                   job, build(job), [](const OpId&) { return Time{}; }, [](const ExportedFile&) {}),
               InputError);
}

}  // namespace
}  // namespace foretrain::plan
