#include "topologies/drawing.h"

#include <gtest/gtest.h>

#include "tests/support/message_of.h"
#include "topologies/fabric.h"

namespace foretrain::topologies {
namespace {

std::unique_ptr<Network> nodes_of_two(std::int64_t nodes) {
  Cluster c;
  c.nodes = nodes;
  c.devices_per_node = 2;
  c.intra = {{100e9}, {1'000'000}};
  c.inter = {{10e9}, {5'000'000}};
  return make_network(c);
}

TEST(Drawing, DotHasEveryVertexAndOneLineForBothDirections) {
  EXPECT_EQ(to_dot(*nodes_of_two(1), "a node"), R"(graph "a node" {
  node [shape=box];
  subgraph cluster_0 {
    label="node 0";
    v0 [label="GPU 0"];
    v1 [label="GPU 1"];
    v2 [label="NVSwitch 0"];
  }
  v0 -- v2 [color="#0072b2", tooltip="nvlink up"];
  v1 -- v2 [color="#0072b2", tooltip="nvlink up"];
}
)");
}

TEST(Drawing, SvgNamesVerticesAndClasses) {
  const std::string svg = to_svg(*nodes_of_two(2), "two <nodes>");
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  for (const char* text : {">two &lt;nodes&gt;<", ">node 1<", ">GPU 1<", ">NVSwitch 0<", ">leaf<",
                           ">nvlink up: 100 GB/s, 1.00 us<", ">adapter up: 10.0 GB/s, 5.00 us<"}) {
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  }
}

TEST(Drawing, TitlesMayHoldAnything) {
  EXPECT_TRUE(to_dot(*nodes_of_two(1), "a\"\\b").starts_with(R"(graph "a\"\\b" {)"));
  EXPECT_NE(to_svg(*nodes_of_two(1), "a\"\x01<b").find(">a&quot; &lt;b<"), std::string::npos);
}

TEST(Drawing, WhatIsTooLargeToReadIsRefused) {
  // 300 nodes: 600 devices, 300 switches, one more above: 901. 400 nodes: 1,201.
  EXPECT_FALSE(to_dot(*nodes_of_two(300), "").empty());
  EXPECT_EQ(
      foretrain::test::message_of([] { to_svg(*nodes_of_two(400), ""); }),
      "a network of 800 devices and 1201 vertices in all cannot be drawn so that it can be read; expected at most "
      "1000 vertices: draw fewer nodes");
}

}  // namespace
}  // namespace foretrain::topologies
