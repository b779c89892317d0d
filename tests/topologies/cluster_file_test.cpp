#include "topologies/cluster_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/parallel.h"
#include "tests/support/message_of.h"
#include "topologies/this_machine.h"

namespace foretrain::topologies {
namespace {

using test::message_of;

Cluster read(const std::string& text) {
  const JsonDocument document = JsonDocument::from_text(text, "job.json");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Cluster c = read_cluster(reader);
  reader.finish();
  mistakes.throw_if_any();
  return c;
}

TEST(ClusterFile, CatalogueFigures) {
  const Cluster a100 = read(R"({"system": "dgx-a100-80gb", "nodes": 128})");
  EXPECT_EQ(a100.device_count(), 1024);
  EXPECT_EQ(a100.device.peak.at(Dtype::bf16).value, 312e12);
  EXPECT_EQ(a100.device.memory_bandwidth.value, 2039e9);
  EXPECT_EQ(a100.device.multiprocessors, 108);
  EXPECT_EQ(a100.intra.bandwidth.value, 300e9);  // 12 NVLinks of 25 GB/s
  EXPECT_EQ(a100.inter.bandwidth.value, 25e9);   // one 200 Gb/s adapter per GPU
  const Cluster h100 = read(R"({"system": "dgx-h100"})");
  EXPECT_EQ(h100.nodes, 0);  // follows from the ranks
  EXPECT_EQ(h100.device.peak.at(Dtype::fp8).value, 1979e12);
  EXPECT_EQ(h100.inter.bandwidth.value, 50e9);
  EXPECT_FALSE(h100.device.peak.contains(Dtype::fp64));
}

TEST(ClusterFile, EverySystemLoadsAndNamesItsSources) {
  for (const CatalogueItem& item : catalogue_items(kSystemFolder)) {
    const Cluster c = load_system(item.name);
    EXPECT_EQ(c.name, item.name);
    EXPECT_FALSE(item.description.empty()) << item.path;
    EXPECT_GE(c.sources.size(), 2U) << item.path;
    EXPECT_GT(c.device.memory.value, 0);
    EXPECT_EQ(to_json(load_system(item.path)), to_json(c));
  }
}

TEST(ClusterFile, ThisMachineDescribesItself) {
  const Cluster c = read(R"({"system": "this-machine"})");
  EXPECT_TRUE(c.this_machine);
  EXPECT_TRUE(c.device.exclusive_streams);
  EXPECT_EQ(c.devices_per_node, available_cores());
  EXPECT_EQ(c.shared_memory.value, available_memory().value);
  EXPECT_EQ(c.device.memory.value, available_memory().value);
  EXPECT_EQ(c.device.name, processor_name());
  EXPECT_GT(available_memory().value, 1 << 20);
  EXPECT_EQ(read(R"({"system": "this-machine", "devices_per_node": 1})").devices_per_node, 1);
}

TEST(ClusterFile, HostsOfThisMachine) {
  const Cluster c = read(R"({"system": "this-machine", "nodes": 2, "devices_per_node": 1, "hosts_share_cores": true,
                             "inter": {"bandwidth": "1 Gb/s", "latency": "50 us"}})");
  EXPECT_TRUE(c.is_hosts());
  EXPECT_EQ(c.inter.bandwidth.value, 125e6);
  EXPECT_EQ(c.inter.latency.value, 50'000'000);
  EXPECT_EQ(c.machine_cores(), 1);
  EXPECT_EQ(c.cores(), 1);  // two namespaces of one machine
  const Cluster one = read(R"({"system": "this-machine", "devices_per_node": 1})");
  EXPECT_FALSE(one.is_hosts());
  EXPECT_EQ(one.inter.bandwidth.value, one.intra.bandwidth.value);
  const Cluster apart = read(R"({"system": "this-machine", "nodes": 3, "devices_per_node": 1,
                                 "inter": {"bandwidth": "1 Gb/s", "latency": "50 us"}})");
  EXPECT_EQ(apart.cores(), 3);
  EXPECT_EQ(read(to_json(c).dump()).inter.bandwidth.value, 125e6);
  EXPECT_EQ(message_of([] { read(R"({"system": "this-machine", "nodes": 2})"); }),
            "job.json:1: /inter: missing: what joins the 2 hosts; expected an object such as {\"bandwidth\": \"1 "
            "Gb/s\", \"latency\": \"50 us\"}");
  EXPECT_EQ(message_of([] { read(R"({"system": "this-machine", "nodes": 1001})"); }),
            "job.json:1: /nodes: 1001 is not allowed; expected an integer from 1 to 1000");
  EXPECT_EQ(message_of([] { read(R"({"system": "dgx-h100", "inter": {"bandwidth": "1 Gb/s", "latency": "50 us"}})"); }),
            "job.json:1: /inter: unknown key \"inter\"; known: system, nodes, devices_per_node, profile, storage, "
            "disturbance");
}

TEST(ClusterFile, HostsByNameAndRole) {
  const std::string link = R"("inter": {"bandwidth": "1 Gb/s", "latency": "50 us"})";
  const auto with = [&](const std::string& hosts) {
    return R"({"system": "this-machine", )" + link + ", " + hosts + "}";
  };
  const Cluster c = read(with(R"("hosts": {"loader": [], "server": ["c"], "worker": ["a", "b.site-2.org"]})"));
  EXPECT_EQ(c.nodes, 3);
  EXPECT_EQ(c.hosts.all(), (std::vector<std::string>{"a", "b.site-2.org", "c"}));
  EXPECT_EQ(read(to_json(c).dump()).hosts.all(), c.hosts.all());
  EXPECT_TRUE(read(with(R"("nodes": 2)")).hosts.empty());
  EXPECT_FALSE(read(R"({"system": "this-machine", "hosts": {"worker": ["a"]}})").is_hosts());
  const auto refusal = [&](const std::string& hosts) { return message_of([&] { read(with(hosts)); }); };
  EXPECT_EQ(refusal(R"("hosts": {"worker": ["a", "b"], "server": ["a"]})"),
            "job.json:1: /hosts/server: \"a\" is named twice; a host has one role");
  EXPECT_EQ(refusal(R"("hosts": {"worker": ["a b"]})"),
            "job.json:1: /hosts/worker: \"a b\" is no name of a host; expected letters, digits, '.', '-' and '_'\n"
            "job.json:1: /hosts/worker: names no host; expected at least one");
  EXPECT_EQ(refusal(R"("hosts": {"server": ["a"]})"),
            "job.json:1: /hosts/worker: names no host; expected at least one");
  EXPECT_EQ(refusal(R"("nodes": 3, "hosts": {"worker": ["a", "b"]})"),
            "job.json:1: /hosts: names 2, and nodes is 3; expected one of the two, or the same number");
  EXPECT_EQ(
      refusal(R"("hosts": {"workers": ["a"]})"),
      "job.json:1: /hosts/workers: unknown key \"workers\"; did you mean \"worker\"? known: worker, server, loader\n"
      "job.json:1: /hosts/worker: names no host; expected at least one");
}

TEST(ThisMachine, ProfilePathFollowsTheEnvironment) {
  setenv("FORETRAIN_PROFILE", "/tmp/p.json", 1);
  EXPECT_EQ(this_machine_profile_path(), "/tmp/p.json");
  unsetenv("FORETRAIN_PROFILE");
  setenv("XDG_DATA_HOME", "/data", 1);
  EXPECT_EQ(this_machine_profile_path(), "/data/foretrain/this-machine.json");
  EXPECT_EQ(this_gpu_profile_path(), "/data/foretrain/this-gpu.json");
  unsetenv("XDG_DATA_HOME");
}

constexpr const char* kInline = R"({"system": {
  "name": "box",
  "device": {"name": "chip", "memory": "16 GB", "memory_bandwidth": "900 GB/s", "peak": {"fp16": "125 TFLOP/s"}},
  "devices_per_node": 4,
  "intra": {"bandwidth": "150 GB/s", "latency": "1.5 us"},
  "inter": {"bandwidth": "100 Gb/s", "latency": "3 us", "source": "a book"}
}, "nodes": 3, "devices_per_node": 2})";

TEST(ClusterFile, InlineSystemsRoundTrip) {
  const Cluster c = read(kInline);
  EXPECT_EQ(c.device_count(), 6);
  EXPECT_EQ(c.inter.bandwidth.value, 12.5e9);
  EXPECT_EQ(c.intra.latency.value, 1'500'000);
  EXPECT_EQ(c.sources, std::vector<std::string>{"box inter: a book"});
  for (const char* text : {kInline, R"({"system": "this-machine"})", R"({"system": "dgx-h200", "nodes": 2})"}) {
    nlohmann::json first = to_json(read(text));
    if (first.at("nodes") == 0) {
      first["nodes"] = 1;  // what a job fills in
    }
    EXPECT_EQ(to_json(read(first.dump())), first) << text;
  }
}

// Ranks share its one GPU, unless there are more.
TEST(ClusterFile, GpusOfThisMachine) {
  const Cluster one = read(R"({"system": "this-gpu"})");
  EXPECT_TRUE(one.this_machine && one.is_gpu && one.shares_devices());
  EXPECT_FALSE(one.device.exclusive_streams);
  EXPECT_EQ(one.devices_per_node, 1);
  EXPECT_EQ(one.shared_memory, Bytes{});
  EXPECT_FALSE(read(R"({"system": "this-gpu", "devices_per_node": 4})").shares_devices());
  EXPECT_TRUE(read(R"({"system": "this-machine"})").shares_devices());
  EXPECT_EQ(message_of([] { read(R"({"system": "this-gpu", "nodes": 2})"); }),
            "job.json:1: /nodes: 2 is not allowed; expected 1");
}

TEST(ClusterFile, AllMistakesAtOnce) {
  EXPECT_EQ(message_of([] {
              read(R"({"system": {
  "device": {"name": "chip", "memory": 16, "memory_bandwidth": "900 GB", "peak": {"fp16": "125", "int8": "1 TFLOP/s"},
             "tdp": 3},
  "devices_per_node": 0,
  "intra": {"bandwidth": "0 GB/s", "latency": "-1 us"},
  "profile": "/no/such.json",
  "nodes": 1
}, "nodes": 0})");
            }),
            R"(job.json:2: /system/device/memory: 16 is not allowed; expected a quantity with its unit, such as "80 GB"
job.json:2: /system/device/memory_bandwidth: "900 GB" has the unknown unit "GB"; expected one of: B/s kB/s MB/s GB/s TB/s PB/s b/s kb/s Mb/s Gb/s Tb/s Pb/s
job.json:2: /system/device/peak/fp16: "125" has no unit; expected a number and one of: FLOP/s kFLOP/s MFLOP/s GFLOP/s TFLOP/s PFLOP/s
job.json:2: /system/device/peak/int8: unknown key "int8"; known: fp64, fp32, tf32, fp16, bf16, fp8, mxfp8, nvfp4
job.json:3: /system/device/tdp: unknown key "tdp"; known: version, description, name, memory, memory_bandwidth, peak, multiprocessors, l2, tdp_watts, exclusive_streams, source
job.json:4: /system/devices_per_node: 0 is not allowed; expected an integer from 1 to 100000
job.json:5: /system/intra/bandwidth: must be more than zero
job.json:5: /system/intra/latency: "-1 us" is negative; expected a quantity >= 0
job.json:1: /system/inter: missing, and has no default
job.json:6: /system/profile: /no/such.json: no such file
job.json:7: /system/nodes: unknown key "nodes"; known: version, name, description, this_machine, gpu, device, devices_per_node, intra, inter, host, storage, fabric, profile, source, sources
job.json:8: /nodes: 0 is not allowed; expected an integer from 1 to 1000000)");
}

TEST(ClusterFile, NamesThatLeadNowhere) {
  EXPECT_EQ(
      message_of([] { read(R"({"system": "dgx-a100"})"); }),
      "job.json:1: /system: unknown system \"dgx-a100\"; did you mean \"dgx-h100\"? known: alibaba-hpn, alps, aws-p4d, "
      "aws-p5, aws-p5en, aws-p6-b200, azure-nd-a100-v4, azure-nd-h100-v5, coreweave-h100, dgx-a100-40gb, "
      "dgx-a100-80gb, "
      "dgx-b200, dgx-b300, dgx-h100, dgx-h200, dgx-v100, gb200-nvl72, gb300-nvl72, gcp-a3-high, gcp-a3-mega, "
      "gcp-a3-ultra, grand-teton-h100-96gb, hgx-a800, hgx-h800, meta-24k-roce, mi300x, oci-a100, oci-h100, polaris, "
      "this-gpu, this-machine");
  EXPECT_EQ(message_of([] { read("{}"); }), "job.json:1: /system: missing, and has no default");
}

}  // namespace
}  // namespace foretrain::topologies
