#include "plan/parameters.h"

#include <gtest/gtest.h>

#include <tuple>

namespace foretrain::plan {
namespace {

// A family of layers of 24 elements: a weight of 4 x 3 at 0 whose last two rows are a replica, a gap of 4, and a bias
// of 5 at 16; 3 elements of padding at the end.
Role role_with_layers() {
  Role role;
  role.global_layer = {4, 5, 6};
  ParameterFamily family;
  family.name = "layer";
  family.elements = 24;
  family.layers = 3;
  Parameter weight;
  weight.name = "layers.{}.weight";
  weight.rows = 4;
  weight.cols = 3;
  weight.global_rows = 10;
  weight.global_cols = 6;
  weight.first_tensor = 2;
  weight.tensor_stride = 12;
  weight.slices = {{{0, 0, 2, 0, 0}, {2, 8, 2, 0, 1}}, {{0, 2, 2, 3, 0}, {2, 8, 2, 3, 0}}};
  Parameter bias;
  bias.name = "layers.{}.bias";
  bias.offset = 16;
  bias.rows = 5;
  bias.cols = 1;
  bias.global_rows = 5;
  bias.global_cols = 1;
  bias.first_tensor = 3;
  bias.tensor_stride = 12;
  bias.slices = {{{0, 0, 5, 0, 0}}, {{0, 0, 5, 0, 1}}};
  family.parameters = {weight, bias};
  role.parameter_families = {family};
  return role;
}

Bucket bucket_of(std::int32_t layers) {
  Bucket b;
  b.elements = 24 * layers;
  b.layers = layers;
  return b;
}

// (layer, begin in the bucket, begin in the tensor, elements)
using Found = std::tuple<int, int, int, int>;
std::vector<Found> pieces(const Role& role, const Bucket& bucket, int first_layer, int shard, int shards, int tp) {
  std::vector<Found> found;
  for_each_piece(role, bucket, first_layer, shard, shards, tp,
                 [&](const Piece& p) { found.emplace_back(p.layer, p.bucket_begin, p.local_begin, p.elements); });
  return found;
}

TEST(Pieces, OfTheWholeBucketEndAtSlices) {
  const Role role = role_with_layers();
  EXPECT_EQ(pieces(role, bucket_of(1), 2, 0, 1, 0), (std::vector<Found>{{2, 0, 0, 6}, {2, 6, 6, 6}, {2, 16, 0, 5}}));
}

// 48 elements in 4 shards of 12: the second holds layer 1's padding gap and bias, 12 to 24; and so on for layer 2.
TEST(Pieces, OfShardsOfTwoLayers) {
  const Role role = role_with_layers();
  const Bucket bucket = bucket_of(2);
  EXPECT_EQ(pieces(role, bucket, 1, 0, 4, 0), (std::vector<Found>{{1, 0, 0, 6}, {1, 6, 6, 6}}));
  EXPECT_EQ(pieces(role, bucket, 1, 1, 4, 0), (std::vector<Found>{{1, 16, 0, 5}}));
  EXPECT_EQ(pieces(role, bucket, 1, 2, 4, 0), (std::vector<Found>{{2, 24, 0, 6}, {2, 30, 6, 6}}));
  EXPECT_EQ(pieces(role, bucket, 1, 3, 4, 0), (std::vector<Found>{{2, 40, 0, 5}}));
}

// 24 elements in 3 shards of 8: the first cut runs through the second slice, 2 elements into it.
TEST(Pieces, AreCutByShards) {
  const Role role = role_with_layers();
  EXPECT_EQ(pieces(role, bucket_of(1), 0, 0, 3, 1), (std::vector<Found>{{0, 0, 0, 6}, {0, 6, 6, 2}}));
  EXPECT_EQ(pieces(role, bucket_of(1), 0, 1, 3, 1), (std::vector<Found>{{0, 8, 8, 4}}));
  EXPECT_EQ(pieces(role, bucket_of(1), 0, 2, 3, 1), (std::vector<Found>{{0, 16, 0, 5}}));
}

TEST(Pieces, ReplicasAndTiedCopiesDoNotCount) {
  Role role = role_with_layers();
  std::vector<bool> counted;
  const auto note = [&](const Piece& p) { counted.push_back(is_counted(p)); };
  for_each_piece(role, bucket_of(1), 0, 0, 1, 0, note);
  for_each_piece(role, bucket_of(1), 0, 0, 1, 1, note);
  EXPECT_EQ(counted, (std::vector<bool>{true, false, true, true, true, false}));
  role.parameter_families[0].parameters[0].counted = false;
  counted.clear();
  for_each_piece(role, bucket_of(1), 0, 0, 1, 1, note);
  EXPECT_EQ(counted, (std::vector<bool>{false, false, false}));
}

TEST(Pieces, NamesAndNumbersAreOfTheGlobalLayer) {
  const Role role = role_with_layers();
  const Parameter& weight = role.parameter_families[0].parameters[0];
  EXPECT_EQ(global_name(role, weight, 1), "layers.5.weight");
  EXPECT_EQ(global_tensor(role, weight, 1), 2 + 5 * 12);
}

// tp rank 1: local row 3, column 2 is element 11; the second slice starts at local row 2 and global row 8, columns at
// 3: global row 9, column 5, of 6 columns: 59. Element 1 is row 0, column 1 of the first slice: global row 2, column
// 4: 16.
TEST(Pieces, GlobalIndexFollowsTheSlice) {
  const Role role = role_with_layers();
  const Parameter& weight = role.parameter_families[0].parameters[0];
  EXPECT_EQ(global_index(weight, weight.slices[1][1], 11), 59);
  EXPECT_EQ(global_index(weight, weight.slices[1][0], 1), 16);
}

}  // namespace
}  // namespace foretrain::plan
