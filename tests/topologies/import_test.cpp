#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/message_of.h"
#include "topologies/import_topology.h"
#include "topologies/node_graph_file.h"
#include "topologies/node_shapes.h"

namespace foretrain::topologies {
namespace {

using foretrain::test::message_of;

// What `nvidia-smi topo -m` prints on a DGX-1 V100, with the escapes that underline its header.
constexpr const char* kDgx1 =
    "$ nvidia-smi topo -m\n"
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\tmlx5_0\tmlx5_1\tmlx5_2\tmlx5_3\tCPU Affinity\x1b[0m\n"
    "GPU0\t X \tNV1\tNV1\tNV2\tNV2\tSYS\tSYS\tSYS\tPIX\tNODE\tSYS\tSYS\t0-19,40-59\n"
    "GPU1\tNV1\t X \tNV2\tNV1\tSYS\tNV2\tSYS\tSYS\tPIX\tNODE\tSYS\tSYS\t0-19,40-59\n"
    "GPU2\tNV1\tNV2\t X \tNV2\tSYS\tSYS\tNV1\tSYS\tNODE\tPIX\tSYS\tSYS\t0-19,40-59\n"
    "GPU3\tNV2\tNV1\tNV2\t X \tSYS\tSYS\tSYS\tNV1\tNODE\tPIX\tSYS\tSYS\t0-19,40-59\n"
    "GPU4\tNV2\tSYS\tSYS\tSYS\t X \tNV1\tNV1\tNV2\tSYS\tSYS\tPIX\tNODE\t20-39,60-79\n"
    "GPU5\tSYS\tNV2\tSYS\tSYS\tNV1\t X \tNV2\tNV1\tSYS\tSYS\tPIX\tNODE\t20-39,60-79\n"
    "GPU6\tSYS\tSYS\tNV1\tSYS\tNV1\tNV2\t X \tNV2\tSYS\tSYS\tNODE\tPIX\t20-39,60-79\n"
    "GPU7\tSYS\tSYS\tSYS\tNV1\tNV2\tNV1\tNV2\t X \tSYS\tSYS\tNODE\tPIX\t20-39,60-79\n"
    "mlx5_0\tPIX\tPIX\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\t X \tNODE\tSYS\tSYS\t\n"
    "mlx5_1\tNODE\tNODE\tPIX\tPIX\tSYS\tSYS\tSYS\tSYS\tNODE\t X \tSYS\tSYS\t\n"
    "mlx5_2\tSYS\tSYS\tSYS\tSYS\tPIX\tPIX\tNODE\tNODE\tSYS\tSYS\t X \tNODE\t\n"
    "mlx5_3\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tPIX\tPIX\tSYS\tSYS\tNODE\t X \t\n"
    "\n"
    "Legend:\n"
    "\n"
    "  X    = Self\n";

// The capacities along a route, in GB/s.
std::vector<double> capacities(const NodeGraph& graph, const NodeRoutes& routes, int from, int to) {
  std::vector<double> found;
  for (const int link : routes.between(from, to)) {
    const int link_class = graph.links[static_cast<std::size_t>(link)].link_class;
    found.push_back(graph.classes[static_cast<std::size_t>(link_class)].capacity.value / 1e9);
  }
  return found;
}

// The imported node is the one that the few numbers of a DGX-1 make: every pair has the same links in the same order.
TEST(SmiMatrix, ADgx1IsTheHybridCubeMesh) {
  const NodeGraph imported = import_smi_matrix(kDgx1, "topo.txt").graph;
  NodeShape shape;
  shape.kind = NodeKind::hybrid_cube_mesh;
  shape.devices = 8;
  shape.adapters = 4;
  shape.bandwidth = {25e9};
  shape.latency = kNvlinkHop;
  shape.pcie = std::make_shared<PcieTree>(PcieTree{4, 2, {31.5e9}, {16e9}, {}, kPcieHop});
  const NodeGraph made = make_node_graph(shape);
  const NodeRoutes a(imported), b(made);
  EXPECT_EQ(imported.devices, 8);
  EXPECT_EQ(imported.links.size(), made.links.size());
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(a.adapter_of(i), b.adapter_of(i));
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(capacities(imported, a, i, j), capacities(made, b, i, j)) << i << " " << j;
      EXPECT_EQ(a.latency(a.between(i, j)), b.latency(b.between(i, j)));
    }
  }
}

// NV12 to each of three others is more than a GPU has: 12 links into a switch. NV4 to each of three is a mesh.
TEST(SmiMatrix, SwitchOrMesh) {
  const auto four = [](const std::string& nv) {
    std::string text = "\tGPU0\tGPU1\tGPU2\tGPU3\n";
    for (int i = 0; i < 4; ++i) {
      text += fmt::format("GPU{}", i);
      for (int j = 0; j < 4; ++j) {
        text += "\t" + (i == j ? "X" : nv);
      }
      text += "\n";
    }
    return import_smi_matrix(text, "topo.txt").graph;
  };
  const NodeGraph on_switch = four("NV12"), mesh = four("NV4");
  EXPECT_EQ(capacities(on_switch, NodeRoutes(on_switch), 0, 3), (std::vector<double>{300, 300}));
  EXPECT_EQ(capacities(mesh, NodeRoutes(mesh), 0, 3), std::vector<double>{100});
  EXPECT_EQ(NodeRoutes(mesh).adapter_of(0), -1);
}

// Two boards of four: NV18 between each two of a board, which is a switch, and nothing but PCIe between the boards.
TEST(SmiMatrix, EveryIslandHasASwitchOfItsOwn) {
  std::string text = "GPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\tCPU Affinity\tNUMA Affinity\n";
  for (int i = 0; i < 8; ++i) {
    text += fmt::format("GPU{}", i);
    for (int j = 0; j < 8; ++j) {
      text += i == j ? "\t X " : i / 4 == j / 4 ? "\tNV18" : "\tSYS";
    }
    text += i < 4 ? "\t0-23\t0\n" : "\t24-47\t1\n";
  }
  const NodeGraph graph = import_smi_matrix(text, "topo.txt").graph;
  const NodeRoutes routes(graph);
  EXPECT_EQ(capacities(graph, routes, 0, 3), (std::vector<double>{450, 450}));
  EXPECT_EQ(capacities(graph, routes, 0, 4), (std::vector<double>{31.5, 16, 31.5}));
}

TEST(SmiMatrix, Mistakes) {
  const auto message = [](const char* text) { return message_of([&] { import_topology_text(text, "topo.txt"); }); };
  EXPECT_EQ(message(""),
            "topo.txt:1: no header was found; expected the output of nvidia-smi topo -m: a line that begins "
            "with GPU0");
  EXPECT_EQ(message("\tGPU0\tGPU1\nGPU0\tX\tNVX\nGPU1\tNVX\tX\n"),
            "topo.txt:2: \"NVX\" is no connection; expected X, NV#, PIX, PXB, PHB, NODE or SYS");
  EXPECT_EQ(message("\tGPU0\tGPU1\nGPU0\tX\n"), "topo.txt:2: the row of GPU0 has 1 connections; expected 2");
  EXPECT_EQ(message("\tGPU0\tGPU1\nGPU0\tX\tSYS\n\nLegend:\n"), "topo.txt:3: the row of GPU1 is missing");
  EXPECT_EQ(message("\tGPU0\tGPU1\nGPU0\tX\tSYS\nGPU2\tX\tSYS\n"),
            "topo.txt:3: \"GPU2\" stands where the row of GPU1 was expected");
  EXPECT_EQ(message("\tGPU0\tGPU0\nGPU0\tX\tSYS\n"),
            "topo.txt:1: \"GPU0\" stands twice in the header, or beyond column 256");
  EXPECT_EQ(message("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU1\tSYS\tX\n"),
            "topo.txt:3: GPU0 and GPU1 are not joined the same way in both rows, or in a way that such things are not");
  EXPECT_EQ(message("\tGPU0\tGPU1\tNIC0\nGPU0\tX\tSYS\tPIX\nGPU1\tSYS\tX\tPIX\nNIC0\tPIX\tPIX\tX\n"),
            "topo.txt:3: how GPU0 and GPU1 are joined contradicts what they have in common with others");
}

constexpr const char* kXml = R"(<system version="1">
  <cpu numaid="0" arch="x86_64" vendor="AuthenticAMD" familyid="143" modelid="49">
    <pci busid="0000:01:00.0" class="0x060400" link_speed="16.0 GT/s PCIe" link_width="16">
      <pci busid="0000:03:00.0" class="0x030200" link_speed="16.0 GT/s PCIe" link_width="16">
        <gpu dev="0" sm="80" rank="0" gdr="1">
          <nvlink target="0000:04:00.0" count="4" tclass="0x030200"/>
          <nvlink target="0000:77:00.0" count="4" tclass="0x030200"/>
        </gpu>
      </pci>
      <pci busid="0000:05:00.0" class="0x020700" link_speed="16.0 GT/s PCIe" link_width="16">
        <nic><net name="mlx5_0" dev="0" speed="200000" port="1"/></nic>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1" arch="x86_64" vendor="AuthenticAMD" familyid="143" modelid="49">
    <pci busid="0000:04:00.0" class="0x030200" link_speed="5 GT/s" link_width="8">
      <gpu dev="1" sm="80" rank="1" gdr="1"><nvlink target="0000:03:00.0" count="4" tclass="0x030200"/></gpu>
    </pci>
    <nic><net name="eth0" dev="1" speed="10000"/></nic>
  </cpu>
</system>
)";

TEST(NcclXml, RatesFollowFromTheFile) {
  const ImportedNode node = import_nccl_xml(kXml, "nccl.xml");
  EXPECT_EQ(node.graph.devices, 2);
  EXPECT_EQ(node.graph.adapter_bandwidth.value, 25e9);
  EXPECT_EQ(node.graph.adapters.size(), 1U);
  const NodeRoutes routes(node.graph);
  EXPECT_EQ(capacities(node.graph, routes, 0, 1), std::vector<double>{100});  // four NVLinks of 25 GB/s
  // From GPU 1 over PCIe 2.0 x8 (5 GT/s x 8 x 8/10 / 8 = 4 GB/s) and between AMD sockets (16 GB/s) to the adapter of
  // the other: twice PCIe 4.0 x16 (16 GT/s x 16 x 128/130 / 8).
  const std::vector<double> way = capacities(node.graph, routes, 1, node.graph.adapters[0]);
  ASSERT_EQ(way.size(), 4U);
  EXPECT_NEAR(way[0], 4, 1e-9);
  EXPECT_NEAR(way[1], 16, 1e-9);
  EXPECT_NEAR(way[2], 31.50769, 1e-5);
  EXPECT_NEAR(way[3], 31.50769, 1e-5);
  EXPECT_EQ(node.notes,
            (std::vector<std::string>{"4 NVLinks to GPUs that are not in the file are left out",
                                      "slower adapters are left out: eth0 (1.25 GB/s)",
                                      "1 PCIe links do not say how fast they are; taken as PCIe 3.0 x16, 15.8 GB/s"}));
}

// Ranks number the devices, wherever they stand.
TEST(NcclXml, DevicesAreNumberedByRank) {
  std::string text = kXml;
  const auto put = [&](const char* from, const char* to) {
    text.replace(text.find(from), std::string(from).size(), to);
  };
  put("rank=\"0\"", "rank=\"5\"");
  const NodeGraph graph = import_nccl_xml(text, "nccl.xml").graph;
  const NodeRoutes routes(graph);
  EXPECT_EQ(capacities(graph, routes, 0, graph.adapters[0]).size(), 4U);  // from the other socket
  EXPECT_EQ(capacities(graph, routes, 1, graph.adapters[0]).size(), 2U);
}

TEST(NcclXml, Mistakes) {
  const auto message = [](const std::string& text) { return message_of([&] { import_topology_text(text, "x.xml"); }); };
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = kXml;
    text.replace(text.find(from), from.size(), to);
    return message(text);
  };
  EXPECT_EQ(message("<system>"), "x.xml:1: not readable as XML (XML_ERROR_MISMATCHED_ELEMENT)");
  EXPECT_EQ(message("<graph/>"), "x.xml:1: expected <system>, as NCCL writes to $NCCL_TOPO_DUMP_FILE");
  EXPECT_EQ(message("<system>\n<cpu/>\n</system>"),
            "x.xml:1: no <gpu> is in it, as in files written for $NCCL_TOPO_FILE; expected what NCCL writes to "
            "$NCCL_TOPO_DUMP_FILE");
  EXPECT_EQ(message("<system>\n<gpu/>\n</system>"), "x.xml:2: <gpu> is not expected in <system>; expected <cpu>");
  EXPECT_EQ(with("count=\"4\" tclass", "count=\"3\" tclass"),
            "x.xml:5: GPU 0 has 3 NVLinks to GPU 1, which has 4 back");
  EXPECT_EQ(with("count=\"4\"", "count=\"x\""), "x.xml:6: count \"x\" of an <nvlink> is no number from 1 to 64");
  EXPECT_EQ(with("0x030200\"/>", "0xbad\"/>"),
            "x.xml:6: tclass \"0xbad\" of an <nvlink>; expected a GPU (0x030200) or an NVSwitch (0x068000)");
  EXPECT_EQ(with("sm=\"80\"", "sm=\"\""), "x.xml:5: sm \"\" of a <gpu> is no compute capability such as 80");
  EXPECT_EQ(with("speed=\"200000\"", "speed=\"-1\""), "x.xml:11: speed \"-1\" of a <net> is no rate in Mb/s");
  EXPECT_EQ(with("0000:04:00.0\" class", "0000:03:00.0\" class"),
            "x.xml:16: busid \"0000:03:00.0\" of a GPU is missing or stands twice");
  EXPECT_EQ(with("</gpu>", "</gpu><gpu/>"),
            "x.xml:8: a second <gpu> in one <pci>; parts of one GPU are not understood");
  EXPECT_EQ(with("16.0 GT/s PCIe", "1e9 GT/s"),
            "x.xml:3: link_speed \"1e9 GT/s\" and link_width \"16\" are no PCIe link");
}

TEST(NodeGraphFile, WhatIsImportedReadsBackToItself) {
  for (const char* text : {kDgx1, kXml}) {
    const std::string written = to_json(import_topology_text(text, "f").graph).dump();
    const JsonDocument document = JsonDocument::from_text(written, "node.json");
    Mistakes mistakes;
    const auto again = read_node_graph(ObjectReader(document, mistakes));
    mistakes.throw_if_any();
    EXPECT_EQ(to_json(*again).dump(), written);
  }
}

TEST(NodeGraphFile, Mistakes) {
  const auto message = [](const char* text) {
    return message_of([&] {
      const JsonDocument document = JsonDocument::from_text(text, "node.json");
      Mistakes mistakes;
      read_node_graph(ObjectReader(document, mistakes));
      mistakes.throw_if_any();
    });
  };
  EXPECT_EQ(
      message(R"({"links": [{"between": ["GPU 0", "TPU 1"], "bandwidth": "1 GB/s"}, {"between": ["GPU 0"]}]})"),
      "node.json:1: /links/0/between: \"TPU 1\" is no part of a node; expected GPU, memory, NVSwitch, PCIe switch, "
      "CPU or NIC and its number, such as \"GPU 0\"\n"
      "node.json:1: /links/1/between: names 1 things; expected 2\n"
      "node.json:1: /links/1/bandwidth: missing, and has no default");
  EXPECT_EQ(
      message(R"({"links": [{"between": ["GPU 0", "NVSwitch 0"], "bandwidth": "1 GB/s"}], "adapters": ["NIC 0"]})"),
      "node.json:1: /links: the node is disconnected: GPU 0 reaches no adapter");
  EXPECT_EQ(message(R"({"links": [{"between": ["GPU 0", "NVSwitch 0"], "bandwidth": "1 GB/s"},
                                  {"between": ["GPU 1", "CPU 0"], "bandwidth": "1 GB/s"}]})"),
            "node.json:1: /links: the node is disconnected: no link leads from GPU 0 to GPU 1");
}

// Two sockets; a GPU and an adapter under the first one's PCIe switch, behind a root port that is slower than the
// switch; a GPU at the second. The GPUs are joined by NVLink at 50 GB/s, and GPU 0 to its CPU at 40. cuda1 stands
// first.
constexpr const char* kHwloc = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" gp_index="1">
    <object type="Package" gp_index="2">
      <object type="Bridge" gp_index="3" bridge_type="0-1">
        <object type="Bridge" gp_index="4" bridge_type="1-1" pci_link_speed="7.876923">
          <object type="Bridge" gp_index="5" bridge_type="1-1" pci_link_speed="15.753846">
            <object type="Bridge" gp_index="6" bridge_type="1-1" pci_link_speed="15.753846">
              <object type="PCIDev" gp_index="7" pci_type="0302 [10de:20b0]" pci_link_speed="31.507692">
                <object type="OSDev" gp_index="8" name="cuda1" osdev_type="5"/>
                <object type="OSDev" gp_index="9" name="nvml1" osdev_type="5"/>
              </object>
            </object>
            <object type="Bridge" gp_index="10" bridge_type="1-1" pci_link_speed="15.753846">
              <object type="PCIDev" gp_index="11" pci_type="0207 [15b3:101b]" pci_link_speed="0.000000">
                <object type="OSDev" gp_index="12" name="ib0" osdev_type="2"/>
                <object type="OSDev" gp_index="13" name="mlx5_0" osdev_type="3"/>
              </object>
            </object>
          </object>
        </object>
        <object type="PCIDev" gp_index="14" pci_type="0106 [8086:a1d2]" pci_link_speed="0.000000"/>
      </object>
    </object>
    <object type="Package" gp_index="20">
      <object type="Bridge" gp_index="21" bridge_type="0-1">
        <object type="PCIDev" gp_index="22" pci_type="0302 [10de:20b0]" pci_link_speed="0.000000">
          <object type="OSDev" gp_index="23" name="cuda0" osdev_type="5"/>
        </object>
      </object>
    </object>
  </object>
  <distances2hetero nbobjs="3" kind="25" name="NVLinkBandwidth">
    <indexes length="20">OSDev:23 OSDev:9 </indexes><indexes length="20">Package:20 </indexes>
    <u64values length="10">1000000 50000 40000 50000 1000000 </u64values><u64values length="10">0 40000 0 0 </u64values>
  </distances2hetero>
</topology>
)";

TEST(HwlocXml, AWireIsAsFastAsItsSlowestPart) {
  const ImportedNode node = import_topology_text(kHwloc, "node.xml");
  EXPECT_EQ(node.format, "hwloc XML");
  EXPECT_EQ(node.graph.devices, 2);
  EXPECT_EQ(node.graph.adapters.size(), 1U);
  EXPECT_EQ(node.graph.adapter_bandwidth.value, 0);
  const NodeRoutes routes(node.graph);
  const int adapter = node.graph.adapters.front();
  EXPECT_EQ(capacities(node.graph, routes, 0, 1), std::vector<double>{50});
  // GPU 1: its port's 15.753846 to the switch, the same out of it.
  EXPECT_EQ(capacities(node.graph, routes, 1, adapter), (std::vector<double>{15.753846, 15.753846}));
  // GPU 0: NVLink to its CPU, across, the root port into the switch, the adapter.
  EXPECT_EQ(capacities(node.graph, routes, 0, adapter), (std::vector<double>{40, 16, 7.876923, 15.753846}));
  EXPECT_EQ(node.notes,
            (std::vector<std::string>{"between sockets 16.0 GB/s is assumed",
                                      "1 PCIe links do not say how fast they are; taken as PCIe 3.0 x16, 15.8 GB/s",
                                      "how fast adapters are into the fabric is not in it"}));
}

TEST(HwlocXml, Mistakes) {
  const auto message = [](std::string_view from, std::string_view to) {
    std::string text = kHwloc;
    text.replace(text.find(from), from.size(), to);
    return message_of([&] { import_topology_text(text, "node.xml"); });
  };
  EXPECT_EQ(message("version=\"2.0\"", "version=\"\""), "node.xml:3: version \"\" of hwloc's format; expected 2 or 3");
  EXPECT_EQ(message("\"7.876923\"", "\"-1\""), "node.xml:7: pci_link_speed \"-1\" is no rate in GB/s");
  EXPECT_EQ(message("OSDev:23", "OSDev:24"), "node.xml:35: \"OSDev:24\" is no object of this file");
  EXPECT_EQ(message("40000 0 0", "40000 0"), "node.xml:34: 8 values for 3 objects; expected their square");
  EXPECT_EQ(message("1000000 50000", "1000000 60000"), "node.xml:34: 60000 MB/s from object 0 to 1, 50000 MB/s back");
  EXPECT_EQ(message("50000 1000000", "fast 1000000"), "node.xml:36: \"fast\" is no rate in MB/s");
  EXPECT_EQ(
      message_of([] { import_topology_text("<topology version=\"2.0\"/>", "node.xml"); }),
      "node.xml:1: no GPU is in it: no device of CUDA, NVML or RSMI, and no 3D controller; expected lstopo's XML of "
      "a node with GPUs");
}

}  // namespace
}  // namespace foretrain::topologies
