#include "base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace foretrain {
namespace {

using test::message_of;

std::string parse_message(std::string_view text) {
  return message_of([&] { JsonDocument::from_text(text, "job.json"); });
}

TEST(JsonDocument, KnowsTheLineOfEveryValue) {
  const auto document =
      JsonDocument::from_text("{\n \"a\": {\"b\": 1,\n  \"c\": [1, {\"d\":\n null}]},\n \"x/y~\": 2}", "f");
  EXPECT_EQ(document.line(""), 1);
  EXPECT_EQ(document.line("/a"), 2);
  EXPECT_EQ(document.line("/a/b"), 2);
  EXPECT_EQ(document.line("/a/c"), 3);
  EXPECT_EQ(document.line("/a/c/0"), 3);
  EXPECT_EQ(document.line("/a/c/1/d"), 4);
  EXPECT_EQ(document.line("/x~1y~0"), 5);
  EXPECT_EQ(document.line("/a/c/2"), 0);
  EXPECT_EQ(document.line("/a/nothing"), 0);
  EXPECT_EQ(document.line("/a/b/c"), 0);
}

TEST(JsonDocument, LinesAreNotFooledByBracketsInStrings) {
  const auto document =
      JsonDocument::from_text("\xef\xbb\xbf{\"a\": \"}]\\\"{\",\n\"b\": [\"\\u0041\", [\"[\"]],\n\"c\": 3}", "f");
  EXPECT_EQ(document.line("/b/1/0"), 2);
  EXPECT_EQ(document.line("/c"), 3);
}

TEST(JsonDocument, RefusesWhatIsNotStrictJson) {
  EXPECT_EQ(parse_message(""), "job.json:1: empty; expected JSON text");
  EXPECT_EQ(parse_message("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}"),
            "job.json:3: the key \"a\" stands twice in one object");
  EXPECT_EQ(parse_message("{\n\"a\": NaN}"),
            "job.json:2: not valid JSON: syntax error while parsing value - invalid literal; last read: '\"a\": N'");
  EXPECT_EQ(parse_message("{\"a\": 1e999}"), "job.json:1: not valid JSON: number overflow parsing '1e999'");
  EXPECT_EQ(
      parse_message("{\"a\": 1,}"),
      "job.json:1: not valid JSON: syntax error while parsing object key - unexpected '}'; expected string literal");
  EXPECT_EQ(parse_message(std::string("\x7f"
                                      "ELF\0\0",
                                      6)),
            "job.json:1: binary data, not JSON text");
  EXPECT_EQ(
      parse_message("{\"a\": \"\xff\xfe\"}"),
      "job.json:1: not valid JSON: syntax error while parsing value - invalid string: ill-formed UTF-8 byte; last "
      "read: '\"?'");
  for (const char* bad :
       {"{", "[1, 2", "{\"a\"", "{\"a\":", "\"", "{} {}", "'a'", "// c\n{}", "tru", "-", "01", "{\"a\": inf}"}) {
    EXPECT_THROW(JsonDocument::from_text(bad, "f"), InputError) << bad;
  }
}

TEST(JsonDocument, NestingIsBounded) {
  EXPECT_NO_THROW(JsonDocument::from_text(std::string(64, '[') + std::string(64, ']'), "f"));
  EXPECT_EQ(parse_message(std::string(65, '[') + std::string(65, ']')), "job.json:1: nested deeper than 64 levels");
  EXPECT_EQ(parse_message(std::string(60'000'000, '[')), "job.json:1: nested deeper than 64 levels");
  EXPECT_EQ(parse_message(std::string(100'000'000, '[')), "job.json:1: larger than 64.0 MB");
}

TEST(JsonDocument, FilesThatAreNone) {
  const test::TemporaryFolder folder;
  const std::string path = folder.path("job.json");
  EXPECT_EQ(message_of([] { JsonDocument::from_file("/no/such.json"); }), "/no/such.json: no such file");
  EXPECT_EQ(message_of([&] { JsonDocument::from_file("/usr"); }), "/usr: a directory; expected a JSON file");
  folder.write("job.json", "{\"a\": [1,\n2");
  EXPECT_EQ(message_of([&] { JsonDocument::from_file(path); }),
            path + ":2: not valid JSON: syntax error while parsing array - unexpected end of input; expected ']'");
  folder.write("job.json", "{\"a\": 1}");
  EXPECT_EQ(JsonDocument::from_file(path).root().at("a"), 1);
}

TEST(JsonDocument, EndlessDevicesEndInAnError) {
  EXPECT_EQ(message_of([] { JsonDocument::from_file("/dev/zero"); }), "/dev/zero:1: larger than 64.0 MB");
}

TEST(JsonDocument, Overrides) {
  auto document = JsonDocument::from_text("{\"strategy\": {\"tp\": 1},\n\"name\": \"x\"}", "f");
  document.override_value("strategy.tp=4");
  document.override_value("strategy.recompute=full");
  document.override_value("workload.optimizer.learning_rate=1e-3");
  document.override_value("strategy.layers_per_stage=[3,4]");
  document.override_value("strategy.note=a=b");
  EXPECT_EQ(document.root().at("strategy").at("tp"), 4);
  EXPECT_EQ(document.root().at("strategy").at("recompute"), "full");
  EXPECT_EQ(document.root().at("strategy").at("layers_per_stage"), nlohmann::json::parse("[3,4]"));
  EXPECT_EQ(document.root().at("strategy").at("note"), "a=b");
  EXPECT_DOUBLE_EQ(document.root().at("workload").at("optimizer").at("learning_rate").get<double>(), 1e-3);
  EXPECT_TRUE(document.overridden("/strategy/layers_per_stage/1"));
  EXPECT_FALSE(document.overridden("/strategy"));
  EXPECT_EQ(document.line("/strategy/tp"), 0);
  EXPECT_EQ(document.line("/name"), 2);
  EXPECT_EQ(message_of([&] { document.override_value("name.x=1"); }),
            "override \"name.x=1\": /name: \"x\" is not an object and has no key \"x\"");
  for (const char* bad : {"", "tp", "=4", ".tp=4", "tp.=4", "a..b=4"}) {
    EXPECT_EQ(message_of([&] { document.override_value(bad); }),
              fmt::format("override \"{}\": expected key=value, such as strategy.tp=4", bad));
  }
  EXPECT_EQ(message_of([&] { document.override_value("name=caf\xe9"); }), "override \"name=caf?\": not UTF-8");
  document.override_value("name=caf\xc3\xa9");
  EXPECT_EQ(document.root().at("name"), "caf\xc3\xa9");
}

TEST(ObjectReader, ReadsEveryKindOfValue) {
  const auto document = JsonDocument::from_text(
      R"({"i": 3, "d": 0.5, "b": true, "t": "x", "w": "one", "l": [1, 2], "ws": ["one"], "time": "2 us", "bytes": "1 kB",
          "bw": "1 GB/s", "flops": "1 TFLOP/s", "o": {"i": 4}, "os": [{"i": 5}, {"i": 6}]})",
      "f");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  EXPECT_EQ(reader.integer("i", std::nullopt, 0), 3);
  EXPECT_EQ(reader.number("d", std::nullopt, 0, 1), 0.5);
  EXPECT_TRUE(reader.boolean("b", std::nullopt));
  EXPECT_EQ(reader.text("t", std::nullopt), "x");
  EXPECT_EQ(reader.word("w", std::nullopt, {"one", "two"}), "one");
  EXPECT_EQ(reader.integers("l", 1), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(reader.words("ws", {"one", "two"}), std::vector<std::string>{"one"});
  EXPECT_EQ(reader.time("time", std::nullopt).value, 2'000'000);
  EXPECT_EQ(reader.bytes("bytes", std::nullopt).value, 1000);
  EXPECT_EQ(reader.bandwidth("bw", std::nullopt).value, 1e9);
  EXPECT_EQ(reader.flop_rate("flops", std::nullopt).value, 1e12);
  ObjectReader inner = reader.object("o");
  EXPECT_EQ(inner.integer("i", std::nullopt, 0), 4);
  auto items = reader.objects("os");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[1].integer("i", std::nullopt, 0), 6);
  EXPECT_EQ(items[1].place("i"), "f:2: /os/1/i");
  EXPECT_FALSE(reader.object("absent", false).present());
  EXPECT_EQ(reader.integer("absent", 7, 0), 7);
  EXPECT_FALSE(reader.has("absent"));
  EXPECT_TRUE(reader.has("i"));
  reader.finish();
  inner.finish();
  mistakes.throw_if_any();
}

TEST(ObjectReader, CollectsAllMistakesWithTheirPlaces) {
  auto document = JsonDocument::from_text(R"({
  "strategy": {
    "tp": "two",
    "pp": 0,
    "recompute": "ful",
    "micro_bach": 1,
    "fraction": 2,
    "memory": 80,
    "speed": "450",
    "stages": [1, "x"],
    "on": 1
  },
  "list": [3]
})",
                                          "job.json");
  document.override_value("strategy.dp=-1");
  Mistakes mistakes;
  ObjectReader root(document, mistakes);
  ObjectReader reader = root.object("strategy");
  reader.integer("tp", 1, 1);
  reader.integer("pp", 1, 1, 64);
  reader.integer("dp", 1, 1);
  reader.integer("micro_batch", 1, 1);
  reader.word("recompute", "none", {"none", "selective", "full"});
  reader.number("fraction", 0.0, 0, 1);
  reader.bytes("memory", std::nullopt);
  reader.bandwidth("speed", std::nullopt);
  reader.integers("stages", 1);
  reader.boolean("on", false);
  reader.text("path", std::nullopt);
  reader.finish();
  root.objects("list");
  root.object("workload");
  root.finish();
  EXPECT_EQ(message_of([&] { mistakes.throw_if_any(); }),
            R"(job.json:3: /strategy/tp: "two" is not allowed; expected an integer >= 1
job.json:4: /strategy/pp: 0 is not allowed; expected an integer from 1 to 64
command line: /strategy/dp: -1 is not allowed; expected an integer >= 1
job.json:5: /strategy/recompute: "ful" is not allowed; did you mean "full"? expected one of: none, selective, full
job.json:7: /strategy/fraction: 2 is not allowed; expected a number from 0 to 1
job.json:8: /strategy/memory: 80 is not allowed; expected a quantity with its unit, such as "80 GB"
job.json:9: /strategy/speed: "450" has no unit; expected a number and one of: B/s kB/s MB/s GB/s TB/s PB/s b/s kb/s Mb/s Gb/s Tb/s Pb/s
job.json:10: /strategy/stages: "x" in the list is not allowed; expected an integer >= 1
job.json:11: /strategy/on: 1 is not allowed; expected true or false
job.json:2: /strategy/path: missing, and has no default
job.json:6: /strategy/micro_bach: unknown key "micro_bach"; did you mean "micro_batch"? known: tp, pp, dp, micro_batch, recompute, fraction, memory, speed, stages, on, path
job.json:13: /list/0: 3 is not allowed; expected an object
job.json:1: /workload: missing, and has no default)");
}

TEST(ObjectReader, ARootThatIsNoObject) {
  const auto document = JsonDocument::from_text("[1, 2]", "f");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  EXPECT_EQ(reader.integer("a", std::nullopt, 1), 1);  // no second message about a missing key
  reader.finish();
  EXPECT_EQ(message_of([&] { mistakes.throw_if_any(); }), "f:1: /: [1,2] is not allowed; expected an object");
}

TEST(ObjectReader, HostileFilesGetABoundedMessage) {
  std::string text = "{\"k\": 1";
  for (int i = 0; i < 200'000; ++i) {
    text += ",\"key" + std::to_string(i) + "\":0";
  }
  const auto document = JsonDocument::from_text(text + "}", "f");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  reader.integer("k", 0, 0);
  reader.finish();
  EXPECT_EQ(mistakes.messages().size(), Mistakes::kShown);
  const std::string message = message_of([&] { mistakes.throw_if_any(); });
  EXPECT_TRUE(message.ends_with("\n... and 199900 more mistakes")) << message.substr(message.size() - 60);
}

}  // namespace
}  // namespace foretrain
