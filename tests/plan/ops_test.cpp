#include "plan/ops.h"

#include <gtest/gtest.h>

namespace foretrain::plan {
namespace {

TEST(KindName, NamesTheOpAndItsStep) {
  EXPECT_EQ(kind_name(Join{}), "join");
  EXPECT_EQ(kind_name(Matmul{}), "matmul");
  Attention attention;
  attention.step = AttentionStep::softmax_scale_backward;
  EXPECT_EQ(kind_name(attention), "attention.softmax_scale_backward");
  Norm norm;
  norm.direction = Direction::backward_weight;
  EXPECT_EQ(kind_name(norm), "norm.backward_weight");
  CrossEntropy entropy;
  entropy.step = CrossEntropyStep::combine;
  EXPECT_EQ(kind_name(entropy), "cross_entropy.combine");
  Collective collective;
  collective.kind = CollectiveKind::reduce_scatter;
  EXPECT_EQ(kind_name(collective), "reduce_scatter");
  Copy copy;
  copy.kind = CopyKind::host_to_device;
  EXPECT_EQ(kind_name(copy), "copy.host_to_device");
  Host host;
  host.task = HostTask::load_targets;
  EXPECT_EQ(kind_name(host), "load_targets");
}

TEST(KindName, TellsSendsFromReceives) {
  Message send, receive;
  receive.send = false;
  EXPECT_EQ(kind_name(Exchange{{send}}), "send");
  EXPECT_EQ(kind_name(Exchange{{receive, receive}}), "recv");
  EXPECT_EQ(kind_name(Exchange{{send, receive}}), "send_recv");
}

}  // namespace
}  // namespace foretrain::plan
