#include "topologies/profile.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "tests/support/message_of.h"

namespace foretrain::topologies {
namespace {

TEST(Profile, CatalogueProfilesReadAndWriteBack) {
  for (const auto& file : std::filesystem::directory_iterator("topologies/profiles")) {
    const Profile p = load_profile(file.path());
    EXPECT_EQ(p.name, file.path().stem());
    EXPECT_TRUE(p.has_roofline && p.has_sharing) << p.name;
    EXPECT_TRUE(p.measured.empty());
    const std::string text = to_json(p);
    EXPECT_EQ(to_json(profile_from_text(text, "again")), text);
  }
}

TEST(Profile, MeasuredTablesReadAndWriteBack) {
  Profile p;
  p.name = "mine";
  Measured& m = p.measured;
  m.machine = "a \"quoted\" machine";
  m.cores = 4;
  m.date = "2026-01-02T03:04:05Z";
  m.commit = "abc";
  m.command = "foretrain calibrate";
  m.core_cache = {1 << 20};
  m.shared_cache = {1 << 25};
  m.dispatch_seconds = 2.5e-7;
  m.matmul = {{Dtype::bf16, Dtype::fp32, true, false, 1, 2, 3, 0.1, 0.05},
              {Dtype::fp64, Dtype::fp64, false, true, 4, 5, 6, 1e-9}};
  m.attention = {{"softmax", Dtype::fp32, 1, 2, 3, 4, 5, false, 0.25, 0.125}};
  m.memory = {{"fill", Dtype::u8, 7, 0.125, 0.0625}};
  m.collectives = {{"all_reduce", 2, 8, 0.5}};
  m.exchanges = {{9, 0.75}};
  m.sharing = {{2, "memory", 10, 1.5}};
  const std::string text = to_json(p);
  const Profile back = profile_from_text(text, "again");
  EXPECT_EQ(to_json(back), text);
  EXPECT_EQ(back.measured.matmul[1].in, Dtype::fp64);
  EXPECT_TRUE(back.measured.matmul[0].trans_a);
  EXPECT_EQ(back.measured.matmul[0].cached_seconds, 0.05);
  EXPECT_EQ(back.measured.shared_cache.value, 1 << 25);
  EXPECT_EQ(back.measured.machine, m.machine);
  EXPECT_FALSE(back.has_roofline);
}

TEST(Profile, MistakesAreNamedAllAtOnce) {
  const std::string text = R"({"schema": "foretrain.profile/1", "name": "x", "measured": {
    "machine": "m", "cores": 0, "date": "d", "commit": "c", "command": "k", "dispatch_seconds": 0,
    "matmul": [{"in": "fp31", "out": "fp32", "trans_a": false, "trans_b": true, "m": 0, "n": 1, "k": 1, "seconds": 1}],
    "attention": [], "memory": [{"kind": "fill", "dtype": "u8", "bytes": 1}], "collectives": [], "exchanges": [],
    "sharing": [], "extra": 1}})";
  EXPECT_EQ(
      test::message_of([&] { profile_from_text(text, "p.json"); }),
      "p.json:2: /measured/cores: 0 is not allowed; expected an integer from 1 to 1048576\n"
      "p.json:3: /measured/matmul/0/in: \"fp31\" is not allowed; did you mean \"fp32\"? expected one of: fp64, fp32, "
      "tf32, fp16, bf16, fp8, mxfp8, nvfp4, i32, i64, u8\n"
      "p.json:3: /measured/matmul/0/m: 0 is not allowed; expected an integer from 1 to 1099511627776\n"
      "p.json:4: /measured/memory/0/seconds: missing, and has no default\n"
      "p.json:5: /measured/extra: unknown key \"extra\"; known: machine, cores, date, commit, command, "
      "core_cache_bytes, shared_cache_bytes, dispatch_seconds, submit_seconds, event_seconds, device_memory_bytes, "
      "matmul, attention, memory, collectives, exchanges, sharing, overlap");
}

}  // namespace
}  // namespace foretrain::topologies
